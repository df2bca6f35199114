"""`dalle bench`: what it prints is one object with the contract's keys, of the sizes that were asked for."""

import json

import jax
import pytest

from dalle_jax import bench, bench_attention, chips, cli
from dalle_jax.commands.bench import TEXTS
from dalle_jax.models import flops
from dalle_jax.ops.sparse_attention import Pattern, gpu_code, head_cycles, tpu_cycles

TINY = ["--layers", "1", "--dim", "16", "--heads", "2", "--text", "4", "--grid", "4", "--kernel", "3"]
TINY += ["--text-vocab", "20", "--image-vocab", "10", "--batch", "3", "--warmup", "1"]
SMALL = ["--text", "8", "--grid", "8", "--heads", "2", "--head-dim", "8", "--kernel", "5", "--warmup", "1"]


def told(capsys, *argv):
  assert cli.main(["bench", *argv]) == 0
  return capsys.readouterr().out


@pytest.mark.parametrize(
  ("what", "key"), [("train-step", "median_s"), pytest.param("sample", "s_per_token", marks=pytest.mark.slow)]
)
def test_a_models_timing_is_one_json_object(capsys, what, key):
  found = json.loads(told(capsys, what, *TINY, "--repeats", "3", "--json"))
  spread = found["spread_s"]
  assert 0 < spread["min"] <= spread["p25"] <= found[key] <= spread["p75"] <= spread["max"]
  assert found["repeats"] == 3
  tokens = 3 * (4 + 16) if what == "train-step" else 3
  assert found["tokens_per_s"] == pytest.approx(tokens / found[key])
  assert (found["shape"]["dim"], found["shape"]["batch"], found["shape"]["text_vocab"]) == (16, 3, 20)
  assert found["device"]["platform"] == jax.devices()[0].platform
  assert {"python", "jax", "flax"} <= set(found["versions"])


def test_parameters_are_those_of_the_shape():
  one = bench.Shape(layers=1, dim=16, heads=2, text=4, grid=4, text_vocab=20, image_vocab=10)
  # A block: two norms of 16 and 16, q, k, v and out with biases, an MLP four times as wide.
  block = 2 * 32 + 4 * (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
  two = bench.Shape(layers=2, dim=16, heads=2, text=4, grid=4, text_vocab=20, image_vocab=10)
  assert bench.parameters(two) - bench.parameters(one) == block


def test_a_person_is_told_the_figure_and_the_machine(capsys):
  text = told(capsys, "train-step", *TINY, "--repeats", "1")
  assert text.startswith("train-step: ")
  assert "s a step (median of 1" in text
  assert "parameters" in text
  assert "of the chip's peak" not in text  # of a processor nobody says


@pytest.mark.slow
def test_the_share_of_the_peak_is_the_model_s_work_over_the_time(capsys, monkeypatch):
  chip = chips.Chip(name="toy", kind="cpu", peak=1e9, memory=1, hbm=1.0, link=1.0, axes=1)
  monkeypatch.setattr(chips, "CHIPS", (*chips.CHIPS, chip))
  found = json.loads(told(capsys, "train-step", *TINY, "--repeats", "1", "--json"))
  shape = bench.Shape(**found["shape"] | {"mix": tuple(found["shape"]["mix"])})
  assert found["mfu"] == pytest.approx(3 * flops.of_transformer(shape.model()) / found["median_s"] / 1e9)
  assert "of the chip's peak in bfloat16" in TEXTS["train-step"](found)


@pytest.mark.slow
def test_attention_is_timed_for_every_pattern_both_ways(capsys):
  found = json.loads(told(capsys, "attention", *SMALL, "--repeats", "2", "--json"))
  assert [(row["kind"], row["pass"]) for row in found["rows"]] == [
    (kind, which) for kind in ("row", "column", "conv") for which in ("forward", "forward and backward")
  ]
  for row in found["rows"]:
    assert row["ratio_dense"] == pytest.approx(row["dense_s"] / row["structured_s"])
    assert row["ratio_jax"] == pytest.approx(row["jax_s"] / row["structured_s"])
    for side in ("dense", "jax", "structured"):
      assert 0 < row[f"{side}_spread_s"]["min"] <= row[f"{side}_s"] <= row[f"{side}_spread_s"]["max"]
  text = told(capsys, "attention", *SMALL, "--repeats", "1").splitlines()
  assert len(text) == 8
  assert text[1].startswith("row")
  assert text[1].count("ms") == 3
  assert text[1].count("x") == 2


def test_where_nothing_is_left_to_compare_it_is_one_line(capsys):
  assert cli.main(["bench", "attention", "--beside", "0"]) == 2
  assert capsys.readouterr().err == "dalle: beside=0 leaves nothing to compare on cpu: leave it out\n"


def test_on_a_gpu_ours_is_the_kernel_and_cudnn_stands_beside_it():
  shape = bench_attention.Shape(dtype="bfloat16", text=64, grid=8)
  x = jax.ShapeDtypeStruct((1, shape.pattern("row").length, 1, 64), "bfloat16")
  sides = bench_attention.sides("gpu")
  assert list(sides) == ["dense", "jax", "structured", "cudnn", "cudnn_causal", "kernel"]
  run = jax.jit(lambda q: sides["kernel"](q, q, q, pattern=shape.pattern("row")))
  assert "sparse_attention_row_forward" in run.trace(x).lower(lowering_platforms=("cuda",)).as_text()


def test_a_missing_compiler_is_one_line(capsys, monkeypatch, tmp_path):
  monkeypatch.setattr(gpu_code.sysconfig, "get_path", lambda _: str(tmp_path))
  assert cli.main(["bench", "gpu-registers"]) == 2
  told = capsys.readouterr()
  assert told.out == ""
  assert told.err.count("\n") == 1
  assert "run `make gpu-compiler`" in told.err


def test_the_sides_of_attention_are_different_programs_with_one_result():
  """A timing of one program against itself would always be fair."""
  shape = bench_attention.Shape(batch=1, heads=1, head_dim=4, text=16, grid=16)
  texts, results = [], []
  for function in bench_attention.sides("cpu").values():
    x = jax.random.normal(jax.random.key(0), (1, shape.pattern("row").length, 1, 4))
    run = jax.jit(lambda q, function=function: function(q, q, q, pattern=shape.pattern("row")))
    texts.append(run.lower(x).as_text())
    results.append(run(x))
  assert len(set(texts)) == len(texts) == 3
  assert all(abs(result - results[0]).max() < 1e-5 for result in results[1:])


def test_cycles_of_splash_follow_from_the_blocks_that_a_mask_lets_live():
  kernel = tpu_cycles.Kernel("splash", loop=100, parts=(10, 50, 20))
  row = Pattern(text=256, grid=32, kind="row")
  # Four blocks of 640, three of them live; 20 bundles always run. Of nine blocks of 512 in 1536 six are live.
  assert head_cycles.of_mask(row, (640, 640), kernel, "forward") == 4 * 20 + 2 * 10 + 3 * 50 + 2 * 20
  assert head_cycles.of_mask(row, (512, 512), kernel, "backward") == 9 * 20 + 3 * 10 + 6 * 50 + 3 * 20
  assert head_cycles.of_mask(row, (1280, 1280), kernel, "forward") == 100


@pytest.mark.parametrize(
  ("argv", "words"),
  [
    (["trainstep"], "train-step"),
    (["train-step", "--heads", "3"], "heads=3"),
    (["sample", "--batch", "0"], "batch=0"),
    (["sample", "--repeats", "0"], "repeats=0"),
    (["attention", "--repeats", "0"], "repeats=0"),
    (["attention", "--dtype", "int8"], "float32, bfloat16 or float16"),
    (["gpu-registers", "--grid", "0"], "256 text positions and a 0x0 grid"),
    (["tpu-cycles", "--grid", "0"], "256 text positions and a 0x0 grid"),
    pytest.param(["attention", "--kernel", "4", *SMALL[:8]], "kernel", marks=pytest.mark.slow),
    (["attention", "--layers", "4"], "--layers"),
  ],
)
def test_a_mistake_is_one_line(capsys, argv, words):
  assert cli.main(["bench", *argv]) == 2
  said = capsys.readouterr().err.strip()
  assert words in said
  assert "\n" not in said
