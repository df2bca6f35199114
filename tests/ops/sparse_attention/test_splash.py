"""JAX's splash attention under our patterns, interpreted: it is told the right mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend


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


def test_what_splash_does_not_serve_is_refused_in_one_line():
  pattern = Pattern(text=4, grid=5, kind="row")
  q, k, v, _ = drawn(pattern)
  with pytest.raises(UserError, match="splash serves softmax='joint' without text lengths: choose reference"):
    attend(q, k, v, pattern=pattern, implementation="splash", interpret=True, text_lengths_B=jnp.array([3]))
