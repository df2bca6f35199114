"""The dVAE's objective: the weight of the KL, the loss worked out by hand, and gradients through soft samples only."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.models import dvae
from dalle_jax.models.likelihoods import Gaussian
from dalle_jax.objectives.dvae import DvaeElbo, count_codes, perplexity
from dalle_jax.schedules import Constant, Cosine, Linear

TINY = dvae.Config(image=8, vocab=7, hidden=16, groups=2, blocks=1, code_dim=4)
ELBO = DvaeElbo(model=TINY, kl=Constant(3.0), temperature=Constant(0.5))
KEY = jax.random.key(5)
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def params():
  rng = np.random.default_rng(1)
  shapes = sharding.unbox(jax.eval_shape(ELBO.init, KEY))
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


def batch(count=3):
  return {"image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)), jnp.uint8)}


@functools.cache
def jitted(objective):
  return jax.jit(lambda p, batch, key, step: objective.loss(p, {}, batch, key, step), compiler_options=QUICK)


def loss(objective=ELBO, step=0, key=KEY):
  value, metrics = jitted(objective)(params(), batch(), key, jnp.int32(step))
  return float(value), {name: float(x) for name, x in metrics.items()}


@functools.cache
def encoded():
  """Mapped pixels and raw logits, in float64."""
  x = dvae.map_pixels(batch()["image"])
  return np.asarray(x, np.float64), applied("encode", x)


def decoded(weights):
  return applied("decode", jnp.asarray(weights, jnp.float32))


def applied(method, x):
  run = jax.jit(lambda p, x: dvae.Dvae(TINY).apply({"params": p}, x, method=method), compiler_options=QUICK)
  return np.asarray(run(params(), x), np.float64)


def nll_by_hand(x, stats):
  mu, log_b = stats[..., :3], stats[..., 3:]
  logit = np.log(x / (1 - x))
  return np.log(2) + log_b + np.log(x) + np.log(1 - x) + np.abs(logit - mu) / np.exp(log_b)


def kl_by_hand(logits):
  q = np.exp(logits - logits.max(-1, keepdims=True))
  q /= q.sum(-1, keepdims=True)
  return (q * np.log(q * q.shape[-1])).sum(-1)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_the_published_beta_weighs_the_mean_kl_by_6_6_over_192():
  assert 6.6 * dvae.Config().positions_per_subpixel == pytest.approx(0.034375, rel=1e-12)
  # Sums over 256 x 256 x 3 sub-pixels and 32 x 32 positions, all divided by the former.
  assert dvae.Config().positions_per_subpixel == pytest.approx(32 * 32 / (256 * 256 * 3), rel=1e-12)


def test_the_loss_is_the_one_worked_out_by_hand():
  x, logits = encoded()
  noise = np.asarray(jax.random.gumbel(KEY, logits.shape), np.float64)
  nll = nll_by_hand(x, decoded(softmax((logits + noise) / 0.5))).mean()
  kl = kl_by_hand(logits).mean()
  got, metrics = loss()
  assert kl > 0.1
  assert metrics["nll"] == pytest.approx(nll, rel=1e-5)
  assert metrics["kl"] == pytest.approx(kl, rel=1e-5)
  assert got == pytest.approx(nll + 3.0 * (4 * 4) / (8 * 8 * 3) * kl, rel=1e-5)
  assert metrics["loss"] == got


def test_another_likelihood_is_that_of_the_decoder_s_statistics():
  from scipy import special, stats

  x, logits = encoded()
  noise = np.asarray(jax.random.gumbel(KEY, logits.shape), np.float64)
  decoder = decoded(softmax((logits + noise) / 0.5))
  middle, scale = special.expit(decoder[..., :3]), np.exp(decoder[..., 3:])
  _, metrics = loss(dataclasses.replace(ELBO, likelihood=Gaussian()))
  assert metrics["nll"] == pytest.approx(-stats.norm.logpdf(x, middle, scale).mean(), rel=1e-4)
  assert abs(metrics["nll"] - loss()[1]["nll"]) > 0.1
  measured, _ = jax.jit(ELBO.evaluate, compiler_options=QUICK)(params(), batch(), KEY, jnp.int32(0))
  likely = decoded(np.eye(7)[logits.argmax(-1)])
  inside = np.diff(
    [stats.laplace.cdf(special.logit(a), likely[..., :3], np.exp(likely[..., 3:])) for a in (0.1, 0.9)], axis=0
  )
  assert 0.05 < measured["outside"] < 0.95
  assert measured["outside"] == pytest.approx(1 - inside.mean(), rel=1e-4)


def test_spread_pixels_are_other_ones_within_their_levels_and_the_encoder_sees_the_pictures():
  spread = dataclasses.replace(ELBO, spread_levels=True)
  (_, plain), (_, first), (_, again) = (loss(each) for each in (ELBO, spread, spread))
  assert first == again
  assert 1e-7 < abs(first["nll"] - plain["nll"]) < 0.05
  assert first["kl"] == pytest.approx(plain["kl"], rel=1e-6)


def test_the_kl_is_of_the_raw_logits_whatever_the_temperature_and_the_noise():
  kl = loss()[1]["kl"]
  warm, (_, other) = dataclasses.replace(ELBO, temperature=Constant(2.0)), loss(key=jax.random.key(6))
  assert loss(warm)[1]["nll"] != pytest.approx(loss()[1]["nll"], rel=1e-4)
  assert other["nll"] != pytest.approx(loss()[1]["nll"], rel=1e-4)
  assert loss(warm)[1]["kl"] == pytest.approx(kl, rel=1e-6)
  assert other["kl"] == pytest.approx(kl, rel=1e-6)


def test_beta_and_temperature_follow_their_schedules():
  objective = dataclasses.replace(
    ELBO, kl=Linear(start=0.0, end=6.6, steps=10), temperature=Cosine(start=1.0, end=1 / 16, steps=20)
  )
  for step, beta, temperature in ((0, 0.0, 1.0), (5, 3.3, None), (10, 6.6, (1 + 1 / 16) / 2), (20, 6.6, 1 / 16)):
    value, metrics = loss(objective, step)
    assert metrics["beta"] == pytest.approx(beta, abs=1e-6)
    if temperature:
      assert metrics["temperature"] == pytest.approx(temperature, rel=1e-6)
    assert value == pytest.approx(metrics["nll"] + beta / 12 * metrics["kl"], rel=1e-5)


def gradients(function):
  return jax.jit(jax.grad(function), compiler_options=QUICK)(params())


def test_gradients_flow_through_the_soft_samples_and_not_through_a_straight_estimate():
  x, model = dvae.map_pixels(batch()["image"]), dvae.Dvae(TINY)

  def by_hand(p, straight):
    logits = model.apply({"params": p}, x, method="encode")
    soft = jax.nn.softmax((logits + jax.random.gumbel(KEY, logits.shape)) / 0.5)
    if straight:  # hard forward, soft backward
      soft = soft + jax.lax.stop_gradient(jax.nn.one_hot(jnp.argmax(soft, -1), 7) - soft)
    mu, log_b = jnp.split(model.apply({"params": p}, soft, method="decode"), 2, axis=-1)
    nll = jnp.log(2 * x * (1 - x)) + log_b + jnp.abs(jnp.log(x / (1 - x)) - mu) / jnp.exp(log_b)
    kl = jnp.log(7.0) - jnp.mean(jax.scipy.special.entr(jax.nn.softmax(logits)).sum(-1))
    return jnp.mean(nll) + 3.0 / 12 * kl

  soft, straight = (gradients(functools.partial(by_hand, straight=s)) for s in (False, True))
  got = gradients(lambda p: ELBO.loss(p, {}, batch(), KEY, jnp.int32(0))[0])
  for (path, a), b, c in zip(
    jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(soft), jax.tree.leaves(straight), strict=True
  ):
    name, size = sharding.path_name(path), np.abs(b).max()
    assert size > 0, name
    if "encoder" in name:
      assert np.abs(c - b).max() > 1e-2 * size, name
    assert np.abs(a - b).max() <= 1e-4 * size, name


def test_each_key_draws_other_noise_and_the_same_key_the_same():
  assert loss() == loss()
  assert loss()[0] != loss(key=jax.random.key(6))[0]


def test_code_usage_is_counted_over_the_batch():
  _, logits = encoded()
  counts = np.bincount(logits.argmax(-1).reshape(-1), minlength=7)
  _, metrics = loss()
  used = counts[counts > 0] / counts.sum()
  assert 1 < (counts > 0).sum() < 7
  assert metrics["codebook_usage"] == pytest.approx((counts > 0).mean())
  assert metrics["codebook_perplexity"] == pytest.approx(np.exp(-(used * np.log(used)).sum()), rel=1e-5)


def test_perplexity_is_one_for_one_code_and_the_number_of_codes_for_all_alike():
  assert perplexity(jnp.array([0, 9, 0, 0])) == pytest.approx(1, abs=1e-5)
  assert perplexity(jnp.full(8, 3)) == pytest.approx(8, rel=1e-5)
  np.testing.assert_array_equal(count_codes(jnp.array([[[1, 1], [3, 0]]]), 5), [1, 2, 0, 1, 0])


def test_evaluation_measures_the_bound_of_soft_of_sampled_and_of_likely_codes():
  metrics, counts = jax.jit(ELBO.evaluate, compiler_options=QUICK)(params(), batch(), KEY, jnp.int32(0))
  x, logits = encoded()
  noisy = logits + np.asarray(jax.random.gumbel(KEY, logits.shape), np.float64)
  one_hot = np.eye(7)
  rate = kl_by_hand(logits).mean() / 12
  expected = {
    "kl": kl_by_hand(logits).mean(),
    "elbo_relaxed": -nll_by_hand(x, decoded(softmax(noisy / 0.5))).mean() - rate,
    "elbo_hard": -nll_by_hand(x, decoded(one_hot[noisy.argmax(-1)])).mean() - rate,
    "nll": nll_by_hand(x, decoded(one_hot[logits.argmax(-1)])).mean(),
  }
  assert len({round(value, 3) for value in expected.values()}) == 4
  for name, value in expected.items():
    assert metrics[name] == pytest.approx(value, rel=1e-4), name
  location = 1 / (1 + np.exp(-decoded(one_hot[logits.argmax(-1)])[..., :3]))
  error = np.clip((location - 0.1) / 0.8, 0, 1) - np.asarray(batch()["image"]) / 255
  assert metrics["psnr"] == pytest.approx(-10 * np.log10((error**2).mean()), rel=1e-4)
  np.testing.assert_array_equal(counts, np.bincount(logits.argmax(-1).reshape(-1), minlength=7))
