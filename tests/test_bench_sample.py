"""What our drawing is timed against draws the same."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_transformer import captions, config, weights

from dalle_jax import bench, bench_sample, chips, cli
from dalle_jax.commands.bench import TEXTS
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.generate import generate

TINY = ["--layers", "2", "--dim", "16", "--heads", "2", "--text", "4", "--grid", "4", "--kernel", "3"]
TINY += ["--text-vocab", "20", "--image-vocab", "10", "--batch", "3", "--warmup", "1", "--repeats", "2"]


@pytest.mark.parametrize("caption", [0, 3])
def test_the_dense_cache_draws_what_ours_draws(caption):
  cfg = config(("row", "column", "full"), layers=5, last="conv")
  params = weights(cfg)
  text_CT = jnp.asarray(captions(8))[caption : caption + 1]
  arguments = (params, text_CT, jax.random.key(3), jnp.array([caption]), jnp.arange(4))
  sampling = SamplingConfig(temperature=0.9)
  ours = np.asarray(generate(*arguments, model=cfg, sampling=sampling))
  dense = np.asarray(bench_sample.dense_cache(*arguments, model=cfg, sampling=sampling))
  assert len(np.unique(ours)) > 5
  np.testing.assert_array_equal(dense, ours)


@pytest.mark.slow
def test_all_three_sides_are_timed_and_told(capsys):
  assert cli.main(["bench", "sample", *TINY, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["tokens_per_s"] == pytest.approx(3 / found["s_per_token"])
  for side in ("dense", "recompute"):
    assert found[f"ratio_{side}"] == pytest.approx(found[f"{side}_s_per_token"] / found["s_per_token"])
    spread = found[f"{side}_spread_s"]
    assert 0 < spread["min"] <= found[f"{side}_s_per_token"] <= spread["max"]
  assert "given_s_per_token" not in found
  told = TEXTS["sample"](found)
  assert f"dense cache: {found['dense_s_per_token']:.4g} s a token, {found['ratio_dense']:.2f} times as long" in told
  assert "no cache: " in told


@pytest.mark.slow
def test_ours_may_be_timed_alone(capsys):
  assert cli.main(["bench", "sample", *TINY, "--beside", "0", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["images_per_s"] == pytest.approx(3 / found["s_per_token"] / 16)
  assert found["roofline"] is None  # of a processor nobody says
  assert not [name for name in found if "dense_s" in name or "recompute" in name]
  assert "images/s" in TEXTS["sample"](found)
  assert "of the roofline" in TEXTS["sample"](found | {"roofline": 0.25})


def test_the_roofline_is_that_of_the_numbers_by_hand():
  # 1.3 billion: 24 layers of 2048, of 32 heads; an H200 has 989.4 TFLOP/s and 4.8 TB/s.
  shape = bench.Shape(layers=24, dim=2048, heads=32, dtype="bfloat16", batch=256)
  weights_bytes = 24 * 12 * 2048**2 * 2 + 2048 * 8192 * 4
  row, column, conv = (np.mean([np.sum(far < j + 1) for j in range(1024)]) for far in distances())
  own = (17 * (row + 1) + 6 * (column + 1) + conv + 1) * 2048 * 2 * 2
  memory = weights_bytes + 256 * own + 24 * 256 * 2048 * 2 * 2
  found = bench_sample.roofline(shape, chips.named("h200"))
  assert found == pytest.approx(256 / 1024 / (memory / 4.8e12), rel=2e-3)
  # With twice the samples it is products that take the time, and more samples change nothing.
  many = [bench_sample.roofline(dataclasses.replace(shape, batch=batch), chips.named("h200")) for batch in (512, 1024)]
  products = 2 * (24 * 12 * 2048**2 + 2048 * 8192) + 4 * 2048 * (
    17 * (row + 1) + 6 * (column + 1) + conv + 1 + 24 * 256
  )
  assert many == pytest.approx([989.4e12 / products / 1024] * 2, rel=2e-3)
  assert many[0] > 1.2 * found


def distances():
  """How far back keys lie that a row, column and convolution of 11 on a grid of 32 see, themselves left out."""
  d = np.arange(1, 1024)
  return d[d <= 32], d[d % 32 == 0], d[(d < 192) & ((d % 32 <= 5) | (d % 32 >= 27))]


@pytest.mark.slow
def test_pictures_whose_top_is_given_are_timed_too(capsys):
  assert cli.main(["bench", "sample", *TINY, "--given-rows", "2", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["ratio_given"] == pytest.approx(found["given_s_per_token"] / found["s_per_token"])
  assert f"top rows given: {found['given_s_per_token']:.4g} s a token" in TEXTS["sample"](found)
  assert cli.main(["bench", "sample", *TINY, "--given-rows", "4"]) == 2
  assert "got given_rows=4, wanted 0 (none) to 3 of the grid's 4" in capsys.readouterr().err


def test_cache_bytes_are_those_of_the_papers_largest_model():
  shape = bench.Shape(
    layers=64, dim=3968, heads=62, batch=1, mix=("row", "column", "row", "row"), last="conv", dtype="bfloat16"
  )
  found = bench_sample.cache_bytes(shape)
  text = 64 * 256 * 3968 * 2 * 2
  assert found["ours_cache_bytes"] - text == pytest.approx(287.7e6, rel=1e-3)
  assert found["dense_cache_bytes"] == pytest.approx(1300e6, rel=1e-3)
