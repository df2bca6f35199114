"""What our drawing is timed against draws the same."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_transformer import captions, config, weights

from dalle_jax import bench, bench_sample, cli
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
