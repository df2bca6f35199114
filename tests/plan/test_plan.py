"""Plans: topologies by name, what fits, ceilings worked out by hand, and a train step compiled for chips not here."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dalle_jax import chips, cli, golden, sharding, step_shapes
from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.ops.sparse_attention import gpu_code, tpu_cycles
from dalle_jax.plan import ask, ceiling, compiled, draw, kernels, report, topologies
from dalle_jax.plan.hlo import Collective, Kernel, Program

ROOT = Path(__file__).parents[2] / "experiments"
replace = dataclasses.replace


@pytest.mark.parametrize(
  ("name", "chip", "shape"),
  [("v5e:16x16", "v5e", (16, 16)), ("v5p:8x8x16", "v5p", (8, 8, 16)), ("h200:64", "h200", (64,))],
)
def test_a_topology_is_a_chip_and_how_many(name, chip, shape):
  made = topologies.parse(name)
  assert (made.chip.name, made.shape, made.gpu) == (chip, shape, chip == "h200")


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("v9:4x4", "no topology 'v9:4x4': its chip must be one of v4, v5e, v5p, v6e, tpu7x, h100, h200"),
    ("a100:8", "its chip must be one of"),
    ("v5p:4x4", "as in v5p:4x4x4"),
    ("v5e:sixteen", "as in v5e:16x16"),
    ("v5e:2x4x4", "as in v5e:16x16"),
    ("h200:80000000", "80,000,000 devices, wanted at most 16,384"),
    ("999xv5e:16x16", "255,744 devices, wanted at most 16,384"),
    ("v5e", "as in v5e:16x16"),
    ("h200:0", "as in h200:8"),
    ("h200:12", "come in hosts of 8"),
    ("0xv5e:4x4", "how many slices there are"),
    ("2xh200:8", "how many slices there are"),
    ("2xv5e:four", "as in v5e:16x16"),
  ],
)
def test_a_topology_that_does_not_exist_is_one_line(name, words):
  with pytest.raises(UserError, match=words):
    topologies.parse(name)


def test_several_slices_are_named_before_the_chip():
  made = topologies.parse("2xv5e:4x8")
  assert (made.slices, made.chip.name, made.shape) == (2, "v5e", (4, 8))
  program = Program((Collective("all-reduce", 400 * 10**6, 2, 2),), (), 1_000_000)
  found = ceiling.estimate(program, flops=2**17 * 5e5, topology=made, of_kernels=0.0)
  assert (found.mfu_hidden, found.mfu_shown, found.collectives) == (0.5, None, None)


def test_a_group_lies_along_as_few_axes_as_hold_it():
  pod = topologies.parse("v5p:4x4x8")
  assert [pod.axes(group) for group in (1, 8, 16, 32, 64, 128)] == [1, 1, 2, 2, 3, 3]
  assert topologies.parse("h200:64").axes(64) == 1


def test_a_ceiling_is_flops_over_cycles_with_and_without_collectives():
  v5e = topologies.parse("v5e:4x4")
  program = Program((Collective("all-gather", 400 * 10**6, 4, 2),), (), 3_000_000)
  made = ceiling.estimate(program, flops=2**17 * 2e6, topology=v5e, of_kernels=1e6)
  assert made.mfu_hidden == pytest.approx(0.5)
  seconds = 2 * 300e6 / 100e9
  assert made.collectives == pytest.approx(seconds * 197e12 / 2**17)
  assert made.mfu_shown == pytest.approx(2e6 / (4e6 + made.collectives))


def test_attention_s_cycles_are_those_of_each_block_s_kind():
  model = transformer.Config(layers=9)
  where = "jit(step)/{}/block_{}/attend"
  called = (
    Kernel("sparse_attention_row_forward.1", where.format("periods", 0), 2),
    Kernel("sparse_attention_column_backward.2", where.format("periods", 1), 2),
    Kernel("splash_mha_dkv_fused.3", where.format("tail", 8), 1),  # layer 8 of 9 is the last: conv
  )
  of_kinds = (("row", 1.0), ("column", 3.0), ("conv", 5.0))
  cycles = {kind: {"training forward": n, "backward": 10 * n} for kind, n in of_kinds}
  program = Program((), called, 0)
  assert ceiling.attention_cycles(program, model, cycles, 4.0, 62.0, "v5e") == 4 * 62 * (2 * 1 + 2 * 30 + 50)
  assert ceiling.attention_cycles(program, model, cycles, 4.0, 62.0, "v5p") == 4 * 62 * (2 * 1 + 2 * 30 + 50) / 2
  with pytest.raises(ValueError, match="is called in no block"):
    ceiling.kind_of(Kernel("k", "jit(step)", 1), model)


def test_a_chip_is_known_by_the_name_that_jax_gives_it():
  assert chips.of_kind("TPU v5 lite").name == "v5e"
  assert chips.of_kind("TPU v5").name == "v5p"
  assert chips.of_kind("NVIDIA H200").name == "h200"
  assert chips.of_kind("NVIDIA H100 80GB HBM3").name == "h100"
  assert chips.of_kind("cpu") is None
  assert set(chips.targets()) == {"h100", "h200"}


def tiny(name="dalle_12b", **changes):
  """The experiment with small models, its structure as it is."""
  whole = golden.resolved(name, ROOT)
  own = whole.stage("transformer")
  model = replace(own.objective.model, layers=5, heads=2, grid=32, **changes)
  stage = replace(own, objective=replace(own.objective, model=model), batch=8)
  return replace(whole, stages=whole.stages | {"transformer": stage})


def on_codes(whole, **changes):
  """The experiment, its transformer trained on codes, so that no dVAE is compiled; changes: of that stage."""
  examples = golden.resolved("demo", ROOT).stage("transformer").examples
  own = whole.stage("transformer")
  stage = replace(own, objective=replace(own.objective, dvae=None), examples=examples, **changes)
  return replace(whole, stages={"dvae": whole.stage("dvae"), "transformer": stage})


def test_a_state_that_no_device_holds_is_refused_before_compiling():
  whole = golden.resolved("dalle_12b", ROOT)
  mesh = sharding.make_mesh(sharding.MeshShape(data=1, fsdp=8))
  whole = replace(whole, stages=whole.stages | {"transformer": replace(whole.stage("transformer"), batch=8)})
  given = step_shapes.arguments(whole, "transformer", mesh)
  state, frozen, _ = given
  assert compiled.on_a_device(state) == pytest.approx(4 * 4 * 12_293_832_192 / 8, rel=0.01)
  with pytest.raises(
    UserError, match=r"23\.3 GiB of parameters, moments and averages on each of 8 v5e, which have 16\.0"
  ):
    compiled.check_room(compiled.of_training(*given), chips.named("v5e"), 8)
  compiled.check_room(compiled.of_training(*given), chips.named("v5p"), 8)
  assert compiled.on_a_device(frozen) == pytest.approx(4 * (53_786_240 + 43_829_766), rel=0.001)


def test_what_the_compiler_says_of_too_much_is_read():
  mesh = sharding.make_mesh(sharding.MeshShape(data=1, fsdp=8))
  given = compiled.of_training(*step_shapes.arguments(replace(tiny(), mesh=sharding.MeshShape()), "transformer", mesh))
  said = RuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.25G of 15.75G hbm. Exceeded")
  found = compiled.too_large(said, given, chips.named("v5e"))
  assert found.total == round(17.25 * 2**30)
  assert not found.fits
  other = RuntimeError("the total memory required for HLO temporaries (16.5G) exceeds available HBM (15.75G).")
  assert compiled.too_large(other, given, chips.named("v5e")).temporaries == round(16.5 * 2**30)
  assert compiled.too_large(RuntimeError("something else"), given, chips.named("v5e")) is None


@pytest.mark.parametrize(
  ("argv", "words"),
  [
    (["nowhere.py", "--topology", "v5e:2x2"], "no experiment file nowhere.py"),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5q:2x2"], "no topology 'v5q:2x2'"),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "--stage", "gan"], "has no stage 'gan'"),
    (
      [str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "--batch", "8", "--largest-batch"],
      "leave one of them",
    ),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "--json", "no/where/x.json"], "no directory no/where"),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "--json", "/proc/x.json"], "cannot write /proc/x.json"),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "--plot", "x.bogus"], "wanted a name that ends in .png"),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "v5e:2x4"], "is there twice"),
    ([str(ROOT / "dalle_1b.py"), "--topology", "v5e:2x4", "--topology", "h200:8"], "is there twice"),
    ([str(ROOT / "dalle_1b.py")], "topology"),
    ([str(ROOT / "dvae_256.py"), "--topology", "v5e:2x2", "--stage", "dvae", "--sample"], "does not draw pictures"),
    (
      [str(ROOT / "demo_captions.py"), "--topology", "v5e:1x1", "--stage", "transformer", "--sample"],
      "trained image-first: it writes captions of pictures and draws none",
    ),
  ],
)
def test_a_mistake_is_one_line_and_exit_code_2(argv, words, capsys):
  assert cli.main(["plan", *argv]) == 2
  said = capsys.readouterr().err.strip().splitlines()
  assert words in said[-1]


@pytest.fixture(scope="module")
def libtpu():
  try:
    tpu_cycles.settings()
  except UserError as error:
    pytest.skip(str(error))


@pytest.mark.parametrize(
  ("topology", "changes", "words"),
  [
    ("v5e:5x5", {}, "v5e:5x5: no topology v5e:5x5"),
    ("v5e:2x4", {"mesh": sharding.MeshShape(data=3)}, "got a mesh of data=3, fsdp=1, model=1 for 8 devices"),
    ("v5e:2x4", {"mesh": sharding.MeshShape(data=2, model=4)}, "does not divide over 4 devices"),
    ("v5e:8x8", {"mesh": sharding.MeshShape()}, "a batch of 8 does not divide over 64 devices"),
    ("2xv5e:2x2", {"mesh": sharding.MeshShape(data=1, fsdp=8)}, "data is to be a multiple of 2"),
  ],
)
@pytest.mark.slow
def test_what_does_not_divide_is_refused_before_anything_is_compiled(libtpu, topology, changes, words):
  with pytest.raises(UserError, match=words):
    ask.plan(replace(tiny(), **changes), "transformer", [topology], lambda *_: None)


@pytest.mark.slow
def test_a_step_for_64_chips_gathers_and_scatters_its_weights(libtpu):
  whole = golden.resolved("dalle_12b", ROOT)
  own = whole.stage("transformer")
  # Of full width: what is reduced how depends on the sizes.
  model = replace(own.objective.model, layers=3, mix=("row", "column"))
  stage = replace(own, objective=replace(own.objective, model=model))
  whole = on_codes(replace(whole, stages=whole.stages | {"transformer": stage}), batch=64)
  (found,) = ask.plan(whole, "transformer", ["v5p:4x4x4"], lambda *_: None)
  assert found["fits"]
  rows = {(row["kind"], row["group"]): row for row in found["collectives"]}
  matrices = 2 * (12 * model.layers * model.dim**2 + model.dim * (model.text_classes + model.image_vocab))
  # Forward and backward: each matrix in bfloat16 is gathered twice (the heads three times), and its gradient scattered
  # once. Filling up whole tiles takes a few percent more.
  assert 1.9 * matrices < rows["all-gather", 16]["bytes"] < 2.6 * matrices
  assert 0.95 * matrices < rows["reduce-scatter", 16]["bytes"] < 1.5 * matrices
  # What is left for all-reduces are the sums over the four copies, of a sixteenth each, and biases, norms and numbers.
  reduced = {group: row["bytes"] for (kind, group), row in rows.items() if kind == "all-reduce"}
  assert reduced.pop(4) < 1.5 * 2 * matrices / 16
  assert sum(reduced.values()) < 0.03 * matrices
  assert 0.3 < found["ceiling"]["mfu_shown"] < found["ceiling"]["mfu_hidden"] < 0.8
  assert set(found["cycles_per_head"]) == {"row", "column", "conv"}


def test_the_12_billion_model_s_sampler_takes_half_the_memory_and_reads_what_its_patterns_see():
  whole = replace(golden.resolved("dalle_12b", ROOT), mesh=sharding.MeshShape(data=2, fsdp=2, model=2))
  whole = replace(whole, stages=whole.stages | {"transformer": replace(whole.stage("transformer"), batch=128)})
  mesh = sharding.make_mesh(whole.mesh)
  given = draw.arguments(whole, "transformer", mesh)
  sizes = draw.sizes(whole, "transformer", mesh, given)
  heads = 3968 * (16640 + 8192)  # in float32, whatever the blocks are in
  image_head, tables = 4 * 3968 * 8192, 2 * heads  # the text's head is not given at all
  assert sizes["params"] == pytest.approx((2 * (12_293_832_192 - heads) + image_head) / 4, rel=0.01)
  position = 2 * 2 * 3968
  image, text = position * (47 * 33 + 16 * 1024 + 192), position * 64 * 256
  assert sizes["caches"] == image / 2 * 128 / 4 + text / 2
  found = draw.estimate(whole, "transformer", mesh, given, chips.named("h200"))
  seen = position * (47 * 33 + 16 * 32 + 192)
  assert found["bytes_read_a_token"] == sizes["params"] - tables / 4 + text / 2 + seen / 2 * 128 / 4
  assert found["pictures_per_s"] == pytest.approx(128 / 1024 * 4800e9 / found["bytes_read_a_token"])


@pytest.mark.slow
def test_between_two_slices_goes_no_weight(libtpu):
  whole = on_codes(replace(tiny(), mesh=sharding.MeshShape(data=-1, fsdp=4)))
  (found,) = ask.plan(whole, "transformer", ["2xv5e:2x2"], lambda *_: None)
  assert (found["devices"], found["mesh"]) == (8, {"data": 2, "fsdp": 4, "model": 1})
  # Gathered within a slice, over 4; between the slices gradients are added up, some in bfloat16, each device's quarter.
  gathered = {row["group"] for row in found["collectives"] if row["kind"] in ("all-gather", "reduce-scatter")}
  assert gathered == {4}
  (between,) = (row for row in found["collectives"] if row["kind"] == "all-reduce between slices")
  assert between["group"] == 2
  assert 0.5 < between["bytes"] / found["memory"]["params"] < 1.5
  assert found["ceiling"]["mfu_shown"] is None
  assert "no rate is published" in report.text(found)


@pytest.mark.slow
def test_a_sampler_for_eight_chips_is_planned(libtpu):
  whole = replace(tiny(), mesh=sharding.MeshShape(data=1, fsdp=4, model=2))
  (found,) = ask.plan(whole, "transformer", ["v5e:2x4"], lambda *_: None, sample=True)
  assert (found["program"], found["fits"], found["batch"]) == ("sampler", True, 8)
  # Once a token or more: 1,024 tokens.
  assert sum(row["calls"] for row in found["collectives"]) > 5 * 1024
  assert found["memory"]["caches"] < found["memory"]["temporaries"]
  assert "at most" in report.text(found)
  assert "keys and values" in report.text(found)


@pytest.mark.slow
def test_gpus_that_are_not_here_are_planned_for_without_a_ceiling(tmp_path):
  try:
    gpu_code.plugin()
  except UserError as error:
    pytest.skip(str(error))
  whole = on_codes(replace(tiny(attention="xla"), mesh=sharding.MeshShape(data=1, fsdp=-1)))
  (found,) = ask.plan(whole, "transformer", ["h100:8"], lambda *_: None)
  assert (found["devices"], found["fits"], found["ceiling"]) == (8, True, None)
  assert found["no_ceiling"] == "this compiler reports no cycles"
  assert {row["kind"] for row in found["collectives"]} >= {"all-gather", "reduce-scatter"}


def test_a_plan_without_a_ceiling_is_drawn_without_a_warning(tmp_path):
  sizes = dict.fromkeys(report.KINDS, 2**20) | {"total": 2**23, "limit": 2**34}
  plans = [
    {"program": "train step", "topology": name, "memory": sizes, "ceiling": None} for name in ("v5e:2x2", "h200:8")
  ]
  report.plot(plans, tmp_path / "p.png")
  assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_command_prints_writes_and_draws(libtpu, tmp_path):
  argv = [sys.executable, "-m", "dalle_jax", "plan", str(ROOT / "demo.py"), "--stage", "dvae"]
  argv += ["--topology", "v5e:2x2", "v5e:2x4", "--batch", "8", "--json", str(tmp_path / "p.json")]
  argv += ["--plot", str(tmp_path / "p.png")]
  done = subprocess.run(argv, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert "dvae's train step on v5e:2x4: 8 devices (data 8 x fsdp 1 x model 1), batch 8, 1 a device" in done.stdout
  assert "MFU ceiling" in done.stdout
  made = json.loads((tmp_path / "p.json").read_text())
  assert [each["topology"] for each in made["plans"]] == ["v5e:2x2", "v5e:2x4"]
  assert made["plans"][0]["compiler"].startswith("libtpu ")
  assert made["command"].startswith(f"dalle plan {ROOT / 'demo.py'} --stage dvae --topology v5e:2x2 v5e:2x4 ")
  assert made["ceilings"].startswith("estimate")
  assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_largest_batch_is_found_and_verified(monkeypatch):
  asked = []

  def answer(whole, stage, topology, **what):
    batch = whole.stage(stage).batch
    if what.get("unit"):
      return {"unit": 8}
    asked.append(batch)
    total = 40 + 3 * batch + (5 if batch > 24 else 0)  # a little more than two compilations foretell
    return {"fits": total <= 200, "memory": {"total": total, "limit": 200}}

  monkeypatch.setattr(ask, "_ask", answer)
  found, larger = ask._with_largest_batch(
    tiny(), "transformer", topologies.parse("v5e:2x4"), lambda *_: None, sample=False
  )
  assert (found.stage("transformer").batch, larger) == (48, 56)
  assert {48, 56} <= set(asked)


def test_a_search_that_ends_before_it_has_seen_the_end_says_so(monkeypatch):
  def answer(whole, stage, topology, **what):
    batch = whole.stage(stage).batch
    # Far from what two compilations foretell: they take much, and what comes after nothing.
    return {"unit": 8} if what.get("unit") else {"fits": True, "memory": {"total": min(batch, 16), "limit": 200}}

  monkeypatch.setattr(ask, "_ask", answer)
  found, larger = ask._with_largest_batch(
    tiny(), "transformer", topologies.parse("v5e:2x4"), lambda *_: None, sample=False
  )
  assert found.stage("transformer").batch > 16
  assert larger is None
  assert "larger ones were not tried" in report._searched({"larger_batch": None})[0]
  assert "56 was tried and does not" in report._searched({"larger_batch": 56})[0]


def test_a_later_topology_s_mistake_is_told_before_the_first_is_compiled(monkeypatch):
  asked = []

  def answer(whole, stage, topology, **what):
    asked.append((topology.name, what))
    if what.get("check"):
      raise UserError(f"{topology.name}: it does not divide")
    return {}

  monkeypatch.setattr(ask, "_ask", answer)
  monkeypatch.setattr(topologies.Topology, "environment", lambda self: {})
  with pytest.raises(UserError, match="v5e:2x4: it does not divide"):
    ask.plan(tiny(), "transformer", ["v5e:2x2", "v5e:2x4"], lambda *_: None)
  assert [name for name, _ in asked] == ["v5e:2x4"]


def test_cycles_are_counted_for_the_heads_that_were_measured():
  assert kernels.counted(transformer.Config(dtype="bfloat16")) == ""
  assert "heads of 64 in bfloat16" in kernels.counted(transformer.Config())
