"""The GPU kernel of one image position, its body interpreted here, against `decode.decode_step` in float32."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.ops.sparse_attention import Pattern, decode
from dalle_jax.ops.sparse_attention.pallas_gpu import drawing

slow = functools.partial(pytest.param, marks=pytest.mark.slow)


class Hopper:
  platform, compute_capability = "gpu", "9.0"


def drawn(pattern, captions=1, samples=64, heads=1, dtype=jnp.bfloat16):
  """A position's query, key and value, and a cache that is full of numbers, those that nobody may see among them."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
  batch, slots = captions * samples, decode.slots(pattern)
  text = [draw(captions, heads, pattern.text, 64) for _ in range(2)]
  cache = decode.Cache(*text, *(draw(batch, heads, slots, 64) for _ in range(2)))
  return [2 * draw(batch, heads, 64), draw(batch, heads, 64), draw(batch, heads, 64)], cache


def kernel(qkv, cache, j, pattern):
  """As `decode_step` calls it on a GPU, interpreted."""
  far_N = drawing.distances(pattern)
  slot_N = jnp.asarray(decode._slot(np.maximum(j - far_N, 0), pattern), jnp.int32)
  return drawing.attend_one(*qkv, *cache[:4], slot_N, jnp.int32((far_N <= j).sum()), interpret=True)


def error(x, exact):
  x, exact = np.asarray(x, np.float32), np.asarray(exact, np.float32)
  return np.linalg.norm(x - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("kind", drawing.KINDS)
def test_distances_are_those_of_the_pattern_wherever_a_position_lies(kind):
  pattern = Pattern(text=64, grid=8, kind=kind, kernel=5)
  far_N, i = drawing.distances(pattern), np.arange(pattern.image)
  assert (np.diff(far_N) > 0).all()
  seen = (i[:, None] == i) | np.isin(i[:, None] - i, far_N)
  np.testing.assert_array_equal(seen, pattern.mask()[64:, 64:])


@pytest.mark.parametrize(
  ("kind", "j", "captions"),
  [("row", 37, 1), slow("row", 0, 2), slow("column", 37, 1), slow("conv", 63, 1), slow("full", 3, 1)],
)
def test_a_position_is_as_near_to_float32_as_the_structured_path(kind, j, captions):
  pattern = Pattern(text=64, grid=8, kind=kind, kernel=5)
  qkv, cache = drawn(pattern, captions)
  wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)  # noqa: E731
  exact, _ = decode.decode_step(*wide(qkv), wide(cache), jnp.int32(j), pattern)
  other, _ = decode.decode_step(*wide(qkv), wide(cache), jnp.int32(j + 1 if j < 63 else j - 1), pattern)
  structured, _ = decode.decode_step(*qkv, cache, jnp.int32(j), pattern)
  found = kernel(qkv, cache, j, pattern)
  assert found.dtype == jnp.bfloat16
  assert 1e-5 < error(found, exact) <= error(structured, exact)
  assert error(other, exact) > 10 * error(found, exact)  # a position more or less is told apart


def test_on_hopper_drawing_calls_the_kernel_where_it_serves_and_says_once_what_draws(monkeypatch, caplog):
  monkeypatch.setattr(sharding, "device", Hopper)
  caplog.set_level(logging.INFO, logger="dalle_jax")
  decode._tell.cache_clear()
  pattern = Pattern(text=64, grid=8, kind="row")

  def program(pattern=pattern, how="auto", **sizes):
    qkv, cache = drawn(pattern, **sizes)
    step = lambda q, k, v, cache, j: decode.decode_step(q, k, v, cache, j, pattern, how)  # noqa: E731
    return jax.jit(step).trace(*qkv, cache, jnp.int32(3)).lower(lowering_platforms=("cuda",)).as_text()

  assert "sparse_attention_drawing" in program()
  assert "sparse_attention_drawing" in program(how="pallas_gpu", captions=2, samples=128)
  for other in (
    program(how="xla"),
    program(samples=32),
    program(dtype=jnp.float32),
    program(Pattern(text=60, grid=8, kind="row")),
    program(Pattern(text=64, grid=8, kind="row_only")),
  ):
    assert "sparse_attention_drawing" not in other
  said = [line.split(" for ")[0] for line in caplog.messages if line.startswith("drawing: ")]
  # Of three patterns; the first by the kernel, then by the path that serves 32 samples and float32 too.
  assert said == ["drawing: our kernel", *["drawing: the structured path"] * 3]


def test_what_is_split_over_devices_is_left_to_the_structured_path(monkeypatch):
  monkeypatch.setattr(sharding, "device", Hopper)
  pattern = Pattern(text=64, grid=8, kind="row")
  assert drawing.serves(pattern, 1, 64, 64, "bfloat16")
  with sharding.in_scope(sharding.make_mesh(sharding.MeshShape(data=8)), sharding.Rules()):
    assert not drawing.serves(pattern, 1, 64, 64, "bfloat16")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", drawing.KINDS)
@pytest.mark.parametrize("j", [0, 7, 777, 1023])
def test_on_a_gpu_a_position_is_as_near_to_float32_as_the_structured_path(kind, j):
  pattern = Pattern(text=256, grid=32, kind=kind)
  qkv, cache = drawn(pattern, captions=2, samples=128, heads=4)
  wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)  # noqa: E731
  step = lambda qkv, cache, how: jax.jit(functools.partial(decode.decode_step, pattern=pattern, implementation=how))(  # noqa: E731
    *qkv, cache, jnp.int32(j)
  )
  with jax.default_matmul_precision("highest"):
    exact, _ = step(wide(qkv), wide(cache), "xla")
  (ours, moved), (structured, expected) = step(qkv, cache, "auto"), step(qkv, cache, "xla")
  assert 1e-5 < error(ours, exact) <= error(structured, exact)
  for a, b in zip(moved[:4], expected[:4]):
    np.testing.assert_array_equal(a, b)
