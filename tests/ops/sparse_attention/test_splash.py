"""JAX's splash attention under our patterns, interpreted, and cuDNN's: they are told the right mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend
from dalle_jax.ops.sparse_attention.patterns import KINDS


def drawn(pattern, batch=1, heads=2, head_dim=64):
  rng = np.random.default_rng(0)
  shape = (batch, pattern.length, heads, head_dim)
  return tuple(jnp.asarray(scale * rng.normal(size=shape), jnp.float32) for scale in (2.0, 1.5, 1.0, 1.0))


@pytest.mark.parametrize(("kind", "order"), [("row", "text_first"), ("conv", "image_first")])
def test_values_and_cotangents_are_those_of_the_reference(kind, order):
  pattern = Pattern(text=4, grid=5, kind=kind, kernel=3, order=order)
  *inputs, cotangent = drawn(pattern)
  found = {}
  for name, how in {"splash": {"interpret": True}, "reference": {}}.items():
    o, pull = jax.vjp(functools.partial(attend, pattern=pattern, implementation=name, **how), *inputs)
    found[name] = (o, *pull(cotangent))
  for got, expected in zip(found["splash"], found["reference"]):
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def one_hot(pattern, dtype):
  """Values and cotangents that name their position: o holds what a position takes of each other, and dv the same."""
  heads, spare = -(-pattern.length // 64), -pattern.length % 64
  names = jnp.pad(jnp.eye(pattern.length, dtype=dtype), ((0, 0), (0, spare))).reshape(1, -1, heads, 64)
  q, k, *_ = (jnp.broadcast_to(x[:, :, :1].astype(dtype), names.shape) for x in drawn(pattern))
  return q, k, names


@pytest.mark.parametrize(
  ("name", "kind"),
  [
    *(pytest.param("splash", kind, marks=pytest.mark.slow) for kind in KINDS),
    *(pytest.param("cudnn", kind, marks=pytest.mark.gpu) for kind in KINDS),
  ],
)
def test_each_position_takes_from_those_it_sees_and_no_other(name, kind):
  pattern = Pattern(text=5, grid=5, kind=kind, kernel=3)
  how, dtype = ({"interpret": True}, jnp.float32) if name == "splash" else ({}, jnp.bfloat16)
  q, k, names = one_hot(pattern, dtype)
  run = functools.partial(attend, pattern=pattern, implementation=name, **how)
  o, pull = jax.vjp(lambda v: run(q, k, v), names)
  flat = lambda x: np.asarray(x, np.float32).reshape(pattern.length, -1)[:, : pattern.length]  # noqa: E731
  np.testing.assert_array_equal(flat(o) != 0, pattern.mask())
  np.testing.assert_array_equal(flat(*pull(names)).T != 0, pattern.mask())


def test_what_splash_does_not_serve_is_refused_in_one_line():
  pattern = Pattern(text=4, grid=5, kind="row")
  q, k, v, _ = drawn(pattern)
  with pytest.raises(UserError, match="splash serves softmax='joint' without text lengths: choose reference"):
    attend(q, k, v, pattern=pattern, implementation="splash", interpret=True, text_lengths_B=jnp.array([3]))
