"""The VQ-VAE's objective: the loss by hand, gradients straight through, a codebook that only its own rule moves."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import config, sharding
from dalle_jax.errors import UserError
from dalle_jax.experiment import Objective
from dalle_jax.models import dvae, vq
from dalle_jax.objectives.vq import VqVae
from dalle_jax.schedules import Constant
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import init_state, make_step

TINY = vq.VqConfig(image=8, vocab=9, hidden=8, groups=2, blocks=1, code_dim=5)
OWN = VqVae(model=TINY, commitment=3.0, decay=0.9)
BATCH = {"image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)), jnp.uint8)}
X = dvae.map_pixels(BATCH["image"])
KEY = jax.random.key(5)
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def params():
  rng = np.random.default_rng(1)
  shapes = sharding.unbox(jax.eval_shape(OWN.init, KEY))
  drawn = jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), shapes)
  z_PC = np.asarray(run(drawn, X, "encode")).reshape(-1, 5)
  vectors_VC = z_PC[rng.permutation(len(z_PC))[:9]] + z_PC.std(0) * rng.normal(size=(9, 5))  # in the midst of them
  return drawn | {"codebook": drawn["codebook"] | {"vectors": jnp.asarray(vectors_VC, jnp.float32)}}


def applied(p, x, method):
  return vq.Vq(TINY).apply({"params": p}, x, method=method)


@functools.partial(jax.jit, static_argnums=2, compiler_options=QUICK)
def run(p, x, method):
  return applied(p, x, method)


def loss(p):
  return OWN.loss(p, {}, BATCH, KEY, jnp.int32(0))[0]


def nearest():
  z = np.asarray(run(params(), X, "encode"), np.float64)
  vectors = np.asarray(params()["codebook"]["vectors"], np.float64)
  codes = np.square(z[..., None, :] - vectors).sum(-1).argmin(-1)
  return z, codes, vectors[codes]


def test_the_loss_is_the_one_worked_out_by_hand():
  z, codes, e = nearest()
  stats = run(params(), jnp.asarray(e, jnp.float32), "decode")
  nll = float(np.mean(dvae.logit_laplace_nll(X, stats)))
  distance = np.square(z - e).sum(-1).mean()
  value, metrics = jax.jit(OWN.loss, compiler_options=QUICK)(params(), {}, BATCH, KEY, jnp.int32(0))
  assert distance > 0.1
  assert metrics["nll"] == pytest.approx(nll, rel=1e-4)
  assert metrics["distance"] == pytest.approx(distance, rel=1e-4)
  assert value == pytest.approx(nll + 3.0 * (4 * 4) / (8 * 8 * 3) * distance, rel=1e-4)
  assert metrics["codebook_usage"] == pytest.approx(len(np.unique(codes)) / 9)
  measured, counts = jax.jit(OWN.evaluate, compiler_options=QUICK)(params(), BATCH, KEY, jnp.int32(0))
  assert measured["nll"] == pytest.approx(nll, rel=1e-4)
  assert measured["elbo_hard"] == pytest.approx(-nll - np.log(9) / 12, rel=1e-4)
  np.testing.assert_array_equal(counts, np.bincount(codes.ravel(), minlength=9))


def test_gradients_go_straight_through_and_none_reaches_the_codebook():
  _, _, e = nearest()
  e = jnp.asarray(e, jnp.float32)

  def decoded(p, q):
    return jnp.mean(dvae.logit_laplace_nll(X, applied(p, q, "decode")))

  wrt_q = jax.jit(jax.grad(decoded, argnums=1), compiler_options=QUICK)(params(), e)

  def by_hand(p, straight):
    z = applied(p, X, "encode")
    distance = 3.0 / 12 * jnp.mean(jnp.sum(jnp.square(z - e), axis=-1))
    return distance + straight * jnp.sum(wrt_q * z) + decoded(p, e)

  got = jax.jit(jax.grad(loss), compiler_options=QUICK)(params())
  expected, without = (
    jax.jit(jax.grad(functools.partial(by_hand, straight=s)), compiler_options=QUICK)(params()) for s in (1.0, 0.0)
  )
  for half in ("encoder", "decoder"):
    for a, b, c in zip(*(jax.tree.leaves(each[half]) for each in (got, expected, without)), strict=True):
      size = np.abs(b).max()
      assert half == "decoder" or np.abs(c - b).max() > 1e-3 * size
      assert np.abs(a - b).max() <= 1e-4 * size
  assert all(not leaf.any() for leaf in jax.tree.leaves(got["codebook"]))


def one_step(objective):
  """The state before and after the train step's first update."""
  mesh, rules = sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1]), sharding.Rules()
  optimizer = AdamW(lr=Constant(0.01), decay=0.5)
  options = {"seed": 0, "mesh": mesh, "rules": rules}
  state = init_state(objective, optimizer, **options)
  before = jax.tree.map(np.array, state.params)
  after, _ = make_step(objective, optimizer, **options)(state, {}, BATCH)
  return before, jax.tree.map(np.array, after.params)


def test_the_batch_moves_the_codebook_and_nothing_else():
  z, codes, _ = nearest()
  old = params()["codebook"]
  vectors, counts = vq.averaged(
    old["vectors"], old["counts"], jnp.asarray(z.reshape(-1, 5), jnp.float32), jnp.asarray(codes.ravel()), 0.9
  )
  other = jax.tree.map(lambda x: x + 1, params())
  after = jax.jit(OWN.moved, compiler_options=QUICK)(params(), other, BATCH, KEY)
  assert np.abs(vectors - old["vectors"]).max() > 1e-2
  np.testing.assert_allclose(after["codebook"]["vectors"], vectors, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(after["codebook"]["counts"], counts, rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, after | {"codebook": old}, other | {"codebook": old})


@pytest.mark.slow
def test_the_step_moves_the_codebook_by_its_averages_and_the_rest_by_gradients():
  before, after = one_step(OWN)
  z = run(before, X, "encode")
  z, codes = z.reshape(-1, 5), run(before, z, "nearest").reshape(-1)
  vectors, counts = vq.averaged(*(jnp.asarray(before["codebook"][k]) for k in ("vectors", "counts")), z, codes, 0.9)
  assert np.abs(after["codebook"]["vectors"] - before["codebook"]["vectors"]).max() > 1e-3
  np.testing.assert_allclose(after["codebook"]["vectors"], vectors, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(after["codebook"]["counts"], counts, rtol=1e-5)
  used = np.unique(codes)
  np.testing.assert_array_equal(
    np.delete(after["codebook"]["vectors"], used, 0), np.delete(before["codebook"]["vectors"], used, 0)
  )
  moved = np.abs(after["encoder"]["output"]["kernel"] - before["encoder"]["output"]["kernel"]).max()
  assert 5e-3 < moved < 5e-2


def test_a_code_that_is_no_longer_used_is_put_where_the_pictures_are_if_that_is_asked_for():
  plain, revived = (
    jax.jit(each.moved, compiler_options=QUICK)(params(), params(), BATCH, KEY)["codebook"]
    for each in (OWN, dataclasses.replace(OWN, revive=0.95))
  )
  dead = np.asarray(plain["counts"] < 0.95)
  assert 0 < dead.sum() < 9
  z = np.asarray(run(params(), X, "encode")).reshape(-1, 5)
  near = np.abs(revived["vectors"][dead][:, None] - z[None]).max(-1).min(1)
  far = np.abs(plain["vectors"][dead][:, None] - z[None]).max(-1).min(1)
  assert far.min() > 1e-3
  assert near.max() < 1e-5
  np.testing.assert_allclose(revived["vectors"][~dead], plain["vectors"][~dead], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(revived["counts"][dead], 1)


def test_it_is_kept_with_an_experiment():
  assert config.from_dict(Objective, json.loads(json.dumps(config.to_dict(OWN)))) == OWN


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"decay": 1.0}, "decay is 1.0"),
    ({"revive": -1.0}, "revive is -1.0"),
    ({"commitment": -0.1}, "commitment is -0.1"),
  ],
)
def test_numbers_that_make_no_sense_are_refused(wrong, message):
  with pytest.raises(UserError, match=message):
    VqVae(model=TINY, **wrong)
