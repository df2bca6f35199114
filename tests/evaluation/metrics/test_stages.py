"""The dVAE's and the transformer's figures against what their objectives say of the same examples."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.evaluation.metrics import dvae as dvae_figures
from dalle_jax.evaluation.metrics import transformer as transformer_figures
from dalle_jax.models import dvae, transformer
from dalle_jax.models.likelihoods import Laplace
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant

VAE = dvae.Config(image=16, vocab=24, hidden=8, groups=2, blocks=1, code_dim=4)
STREAM = transformer.Config(
  text_vocab=20, text=6, image_vocab=24, grid=4, layers=2, heads=2, head_dim=4, mix=("row", "column"), last=None
)
ELBO = DvaeElbo(model=VAE, kl=Constant(1.0), temperature=Constant(0.25))


def weights(objective, seed):
  shapes = sharding.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def pictures():
  return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def columns(pictures):
  how = {"seed": 3, "temperature": 0.25}
  return dvae_figures.measure(weights(ELBO, 1), VAE, pictures, np.arange(7, 12), **how)


def test_the_dvaes_columns_are_what_its_objective_says_of_each_picture(pictures, columns):
  found, decoded_BHWC = columns
  params, evaluate = weights(ELBO, 1), jax.jit(ELBO.evaluate)
  for i, number in enumerate(range(7, 12)):
    key = jax.random.fold_in(jax.random.key(3), number)
    wanted, counts_V = evaluate(params, {"image": jnp.asarray(pictures[i : i + 1])}, key, jnp.int32(0))
    for ours, theirs, scale in (
      ("nll", "nll", 1),
      ("elb_hard", "elbo_hard", 1),
      ("elb_relaxed", "elbo_relaxed", 1),
      ("kl", "kl", VAE.grid**2),
    ):
      np.testing.assert_allclose(found[ours][i], scale * wanted[theirs], rtol=2e-5)
    np.testing.assert_array_equal(np.bincount(found["codes"][i].ravel(), minlength=24), counts_V)
    error = np.square(pictures[i] / 255 - decoded_BHWC[i] / 255).mean()
    np.testing.assert_allclose(found["squared_error"][i], error, rtol=1e-6)
  assert abs(found["elb_hard"] - found["elb_relaxed"]).min() > 1e-3


def test_bounds_are_under_the_likelihood_that_it_was_trained_by(pictures, columns):
  objective = replace(ELBO, likelihood=Laplace(), spread_levels=True)
  how = {"seed": 3, "temperature": 0.25, "likelihood": Laplace(), "spread_levels": True, "similarity": False}
  found, _ = dvae_figures.measure(weights(ELBO, 1), VAE, pictures[:1], np.array([7]), **how)
  key = jax.random.fold_in(jax.random.key(3), 7)
  batch = {"image": jnp.asarray(pictures[:1])}
  wanted, _ = jax.jit(objective.evaluate)(weights(ELBO, 1), batch, key, jnp.int32(0))
  for ours, theirs in (("nll", "nll"), ("elb_hard", "elbo_hard"), ("elb_relaxed", "elbo_relaxed")):
    np.testing.assert_allclose(found[ours][0], wanted[theirs], rtol=2e-5)
    assert abs(found[ours][0] - columns[0][ours][0]) > 1e-2


def test_a_pictures_columns_do_not_depend_on_its_batch(pictures, columns):
  how = {"seed": 3, "temperature": 0.25}
  found, _ = dvae_figures.measure(weights(ELBO, 1), VAE, pictures[2:4], np.array([9, 10]), **how)
  for name, column in found.items():
    np.testing.assert_allclose(column, columns[0][name][2:4], rtol=2e-5)
  other, _ = dvae_figures.measure(weights(ELBO, 1), VAE, pictures[2:4], np.array([9, 10]), **how | {"seed": 4})
  assert (other["elb_hard"] != found["elb_hard"]).all()


def test_the_dvaes_figures_are_those_asked_for(columns):
  found = {each.metric: each for each in dvae_figures.figures(columns[0], 24, ["nll", "elb", "psnr", "ssim", "codes"])}
  assert set(found) == {
    *("nll", "elb_hard", "elb_relaxed", "kl", "psnr", "psnr_of_each", "ssim", "codes_used", "code_perplexity"),
  }
  error_N = columns[0]["squared_error"]
  assert found["psnr"].value == pytest.approx(-10 * np.log10(error_N.mean()))
  assert found["psnr_of_each"].value == pytest.approx(np.mean(-10 * np.log10(error_N)))
  assert found["psnr"].value < found["psnr_of_each"].value
  assert found["codes_used"].value == len(np.unique(columns[0]["codes"]))
  assert [each.metric for each in dvae_figures.figures(columns[0], 24, ["ssim"])] == ["ssim"]


@pytest.mark.parametrize("pad_targets", [pytest.param(True, marks=pytest.mark.slow), False])
def test_the_transformers_figures_are_its_training_loss(pad_targets):
  objective = TransformerNll(model=STREAM, pad_targets=pad_targets)
  params, rng = weights(objective, 2), np.random.default_rng(1)
  text_BT = rng.integers(0, 20, (4, 6)).astype(np.int32)
  for row, words in enumerate((5, 3, 1, 4)):
    text_BT[row, words:] = 20 + np.arange(words, 6)
  codes_BP = rng.integers(0, 24, (4, 16)).astype(np.int32)
  batch = {"text": jnp.asarray(text_BT), "codes": jnp.asarray(codes_BP)}
  _, wanted = objective.loss(params, {}, batch, jax.random.key(0), jnp.int32(0))
  columns = transformer_figures.measure(params, STREAM, text_BT, codes_BP)
  how = {"text_weight": 1 / 8, "image_weight": 7 / 8, "pad_targets": pad_targets, "dimensions": 768}
  found = {each.metric: each for each in transformer_figures.figures(columns, STREAM, **how)}
  for name in ("loss", "loss_text", "loss_text_no_pads", "loss_image"):
    assert found[name].value == pytest.approx(float(wanted[name]), rel=1e-5)
  assert found["loss_text"].value != pytest.approx(found["loss_text_no_pads"].value, rel=1e-3)
  assert found["image_by_dimension"].value == pytest.approx(found["loss_image"].value * 16 / 768)
  assert found["image_bits_by_dimension"].value == pytest.approx(found["image_by_dimension"].value / np.log(2))
  np.testing.assert_allclose(columns["image_by_token"].sum(axis=1), columns["image"], rtol=1e-5)
