"""cuDNN's attention under our patterns: refused where there is none, and right where there is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend

PATTERN = Pattern(text=64, grid=8, kind="row")
by_cudnn = functools.partial(attend, pattern=PATTERN, implementation="cudnn")


def drawn(dtype):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=(2, PATTERN.length, 2, 64)), dtype) for _ in range(4)]


@pytest.mark.parametrize(
  ("dtype", "more", "message"),
  [
    (jnp.float32, {}, "cudnn takes q, k and v all bfloat16 or all float16, got float32: choose xla"),
    (jnp.bfloat16, {"text_lengths_B": jnp.array([1, 2])}, "cudnn serves softmax='joint' without text lengths"),
    (jnp.bfloat16, {"interpret": True}, "is 'cudnn', no kernel, and can't be interpreted"),
    (jnp.bfloat16, {}, "cudnn runs on NVIDIA GPUs: choose xla here"),
  ],
)
def test_what_cannot_run_is_refused_in_one_line(dtype, more, message):
  if jax.default_backend() == "gpu" and not more and dtype == jnp.bfloat16:
    pytest.skip("it can run here")
  with pytest.raises(UserError, match=message):
    by_cudnn(*drawn(dtype)[:3], **more)


def test_full_attention_in_either_order_is_causal():
  """So cuDNN is given no mask for it."""
  for order in ("text_first", "image_first"):
    mask = Pattern(text=3, grid=2, order=order).mask()
    np.testing.assert_array_equal(mask, np.tril(np.ones_like(mask)))


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", [PATTERN, Pattern(text=64, grid=8)])
def test_values_and_cotangents_are_near_those_of_the_reference(pattern):
  *inputs, cotangent = drawn(jnp.bfloat16)
  found = {}
  for name in ("cudnn", "reference"):
    o, pull = jax.vjp(functools.partial(attend, pattern=pattern, implementation=name), *inputs)
    found[name] = [np.asarray(x, np.float32) for x in (o, *pull(cotangent))]
  for got, expected in zip(found["cudnn"], found["reference"]):
    assert 0 < np.abs(got - expected).max() <= 2e-2 * np.abs(expected).max()
