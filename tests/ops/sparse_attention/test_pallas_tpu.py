"""The TPU kernel, its body interpreted here, against jax's own attention under the mask."""

import functools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend, pallas_tpu, tiles
from dalle_jax.ops.sparse_attention.pallas_tpu.columns import exchange
from dalle_jax.ops.sparse_attention.patterns import KINDS

QUICK = {"xla_backend_optimization_level": 0}  # these programs run for less time than they take to compile
interpreted = functools.partial(attend, implementation="pallas_tpu", interpret=True)


def drawn(pattern, batch=2, heads=2, head_dim=64, seed=0, dtype=jnp.float32):
  """Queries, keys, values and the output's cotangent; scores spread over several nats."""
  rng = np.random.default_rng(seed)
  shape = (batch, pattern.length, heads, head_dim)
  scales = (2.0, 1.5, 1.0, 1.0)
  return tuple(jnp.asarray(scale * rng.normal(size=shape), dtype) for scale in scales)


def oracle(q, k, v, *, pattern, lengths=None):
  """jax's attention under the dense mask, in which captions end where their lengths say."""
  i = jnp.arange(pattern.length)
  mask = pattern.allowed(i[:, None], i[None, :])[None, None]
  if lengths is not None:
    mask = mask & ((i >= pattern.text)[None] | (i[None] < jnp.array(lengths)[:, None]))[:, None, None]
  return jax.nn.dot_product_attention(q, k, v, mask=mask)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def values_and_cotangents(function, q, k, v, cotangent):
  o, backwards = jax.vjp(function, q, k, v)
  return {"o": o} | dict(zip("qkv", backwards(cotangent)))


def errors(got, expected):
  """Largest difference of each tensor over the largest entry of what was expected."""
  pairs = {n: (np.asarray(got[n], np.float32), np.asarray(b, np.float32)) for n, b in expected.items()}
  return {n: np.abs(a - b).max() / np.abs(b).max() for n, (a, b) in pairs.items()}


def assert_alike(pattern, inputs, lengths=None, most=2e-6):
  ours = functools.partial(
    interpreted, pattern=pattern, text_lengths_B=None if lengths is None else jnp.asarray(lengths)
  )
  got = values_and_cotangents(ours, *inputs)
  expected = values_and_cotangents(functools.partial(oracle, pattern=pattern, lengths=lengths), *inputs)
  assert max(errors(got, expected).values()) <= most, errors(got, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_cotangents_are_those_of_dense_masked_attention(kind):
  pattern = Pattern(text=4, grid=5, kind=kind, kernel=3)
  assert_alike(pattern, drawn(pattern, heads=3))


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
def test_the_kernel_exchanges_rows_and_columns_itself(dtype):
  pattern = Pattern(text=128, grid=16, kind="column")
  inputs = drawn(pattern, dtype=dtype)
  run = functools.partial(interpreted, pattern=pattern)
  outside = str(jax.make_jaxpr(run)(*inputs[:3])).split("pallas_call")[0]
  assert "transpose" not in outside
  expected = values_and_cotangents(functools.partial(oracle, pattern=pattern), *(x.astype(jnp.float32) for x in inputs))
  found = errors(values_and_cotangents(run, *inputs), expected)
  assert max(found.values()) <= (2e-6 if dtype == jnp.float32 else 2e-2)


@pytest.mark.parametrize("kind", ["row", "full"])
def test_text_lengths_hide_the_text_after_them(kind):
  pattern = Pattern(text=130, grid=3, kind=kind)
  inputs, lengths = drawn(pattern, batch=3), (1, 100, 130)
  assert_alike(pattern, inputs, lengths)
  other = (2, 100, 130)
  ours = interpreted(*inputs[:3], pattern=pattern, text_lengths_B=jnp.array(lengths))
  difference = np.abs(ours - oracle(*inputs[:3], pattern=pattern, lengths=other)).max((1, 2, 3))
  assert difference[0] > 1e-2  # where the lengths differ, and there alone
  assert difference[1:].max() < 1e-5


def test_a_position_that_sees_nothing_gets_zeros_and_no_gradient():
  pattern = Pattern(text=4, grid=3, kind="row")
  run = functools.partial(interpreted, pattern=pattern, text_lengths_B=jnp.array([0, 4]))
  got = jax.device_get(values_and_cotangents(run, *drawn(pattern)))
  assert all(np.isfinite(x).all() for x in got.values())
  assert (got["o"][0, :4] == 0).all()
  assert (got["q"][0, :4] == 0).all()
  assert (got["v"][0, :4] == 0).all()
  assert (got["o"][0, 4:] != 0).all()
  assert (got["o"][1] != 0).all()


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
  st.integers(0, 140), st.integers(2, 12), st.sampled_from(KINDS), st.integers(1, 5), st.sampled_from([16, 32, 64, 128])
)
def test_any_text_grid_heads_and_head_dim(text, grid, kind, heads, head_dim):
  pattern = Pattern(text=text, grid=grid, kind=kind, kernel=3)
  assert_alike(pattern, drawn(pattern, batch=1, heads=heads, head_dim=head_dim))


@pytest.mark.parametrize("kind", ["row", pytest.param("column", marks=pytest.mark.slow)])
def test_at_the_papers_size(kind):
  pattern = Pattern(text=256, grid=32, kind=kind)
  assert_alike(pattern, drawn(pattern, batch=1))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "grid"), [("conv", 32), ("full", 24)])  # float32 of full attention fills fast memory
def test_at_the_papers_size_where_more_is_seen(kind, grid):
  pattern = Pattern(text=256, grid=grid, kind=kind)
  assert_alike(pattern, drawn(pattern, batch=1))


@pytest.mark.parametrize("kind", ["row", "conv"])
def test_bfloat16_is_as_near_to_float32_as_dense_bfloat16_is(kind):
  pattern = Pattern(text=4, grid=16, kind=kind)
  inputs = drawn(pattern, batch=1, dtype=jnp.bfloat16)
  dense = functools.partial(oracle, pattern=pattern)
  exact = values_and_cotangents(dense, *(x.astype(jnp.float32) for x in inputs))
  ours = values_and_cotangents(functools.partial(interpreted, pattern=pattern), *inputs)
  assert {x.dtype for x in ours.values()} == {jnp.dtype(jnp.bfloat16)}
  theirs, mine = errors(values_and_cotangents(dense, *inputs), exact), errors(ours, exact)
  assert all(1e-4 < mine[name] <= 2 * theirs[name] for name in mine), (mine, theirs)


@pytest.fixture
def in_steps(monkeypatch):
  """No stream fits fast memory whole."""
  monkeypatch.setattr(sys.modules["dalle_jax.ops.sparse_attention.pallas_tpu.attend"], "FAST_MEMORY", 0)


@pytest.mark.parametrize(
  ("text", "grid", "kind", "kernel", "lengths"),
  [
    # Blocks of one tile, the image's second one the first with a whole window.
    pytest.param(4, 16, "row", 3, None, marks=pytest.mark.slow),
    # Blocks of two tiles, the image a single one.
    pytest.param(256, 16, "row", 3, None, marks=pytest.mark.slow),
    # Ragged, with lengths.
    (130, 24, "conv", 5, (7, 130)),
    # No text and no window.
    pytest.param(0, 32, "column", 3, None, marks=pytest.mark.slow),
    # Windows of two blocks and the own one.
    (4, 32, "conv", 11, None),
  ],
)
def test_long_streams_pass_through_fast_memory_in_blocks(in_steps, text, grid, kind, kernel, lengths):
  pattern = Pattern(text=text, grid=grid, kind=kind, kernel=kernel)
  inputs = drawn(pattern, heads=3)  # two groups, two examples: what one leaves behind is not the next one's
  program = str(jax.make_jaxpr(functools.partial(interpreted, pattern=pattern))(*inputs[:3]))
  assert "program_id" in program
  assert_alike(pattern, inputs, lengths)


def jacobian(pattern):
  """|d o_i / d v_j| for every pair of positions, summed over the head's dimensions."""
  q, k, v, _ = drawn(pattern, batch=1, heads=1, head_dim=16, seed=1)
  run = lambda v: interpreted(q, k, v, pattern=pattern)[0, :, 0, 0]  # noqa: E731
  by_v = jax.jit(jax.jacobian(run), compiler_options=QUICK)(v)
  return np.abs(np.asarray(by_v))[:, 0, :, 0].sum(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_position_takes_from_those_it_sees_and_no_other(kind):
  pattern = Pattern(text=4, grid=5, kind=kind, kernel=3)
  np.testing.assert_array_equal(jacobian(pattern) != 0, pattern.mask())


@pytest.mark.parametrize("kind", ["row", "column", "conv", "full"])
def test_a_leaky_mask_is_noticed(monkeypatch, kind):
  pattern = Pattern(text=4, grid=5, kind=kind, kernel=3)
  mask = tiles.mask
  monkeypatch.setattr(tiles, "mask", lambda plan: np.maximum(mask(plan), np.roll(mask(plan), 1, axis=1)))
  with pytest.raises(AssertionError):
    np.testing.assert_array_equal(jacobian(pattern) != 0, pattern.mask())


def test_every_product_of_float32_is_asked_for_at_the_highest_precision():
  pattern = Pattern(text=4, grid=5, kind="row")
  run = functools.partial(interpreted, pattern=pattern)
  products = {}
  for dtype in (jnp.float32, jnp.bfloat16):
    text = values_and_cotangents.lower(run, *drawn(pattern, dtype=dtype)).as_text()
    products[dtype] = re.findall(r"stablehlo\.dot_general.*", text)
  assert len(products[jnp.float32]) == len(products[jnp.bfloat16]) >= 14  # two forward, five backward, for three pairs
  assert all("precision = [HIGHEST, HIGHEST]" in line for line in products[jnp.float32])
  assert not any("HIGHEST" in line for line in products[jnp.bfloat16])


@pytest.mark.slow
def test_products_of_128_keys_give_what_those_of_256_give():
  pattern = Pattern(text=130, grid=16, kind="conv")
  inputs = drawn(pattern, batch=1)
  narrow, wide = (
    functools.partial(pallas_tpu.attend, pattern=pattern, interpret=True, block_k=block_k) for block_k in (128, 256)
  )
  programs = [str(jax.make_jaxpr(f)(*inputs[:3])) for f in (narrow, wide)]
  assert programs[0] != programs[1]
  assert max(errors(*(values_and_cotangents(f, *inputs) for f in (narrow, wide))).values()) <= 2e-6


def test_under_scan_remat_and_vmap():
  pattern = Pattern(text=4, grid=5, kind="row")
  q, k, v, g = drawn(pattern, batch=1, head_dim=16)

  @functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
  def run(function):
    layer = jax.checkpoint(lambda x: x + function(x, k, v, pattern=pattern))
    scanned = lambda x: jax.lax.scan(lambda x, _: (layer(x), None), x, None, length=2)[0]  # noqa: E731
    values, pull = jax.vjp(jax.vmap(scanned), jnp.stack([q, 2 * q]))
    return {"o": values, "q": pull(jnp.stack([g, g]))[0]}

  assert max(errors(run(interpreted), run(oracle)).values()) <= 4e-6


@pytest.mark.parametrize("lengths", [None, (1, 2, 3, 4)])
def test_each_device_of_a_mesh_computes_its_own_heads_and_examples(lengths):
  pattern = Pattern(text=4, grid=5, kind="column")
  inputs = drawn(pattern, batch=4, heads=4)
  run = functools.partial(interpreted, pattern=pattern, text_lengths_B=None if lengths is None else jnp.array(lengths))
  mesh = sharding.make_mesh(sharding.MeshShape(data=2, fsdp=2, model=2))

  def sharded(q, k, v):
    with sharding.in_scope(mesh, sharding.Rules()):
      return run(q, k, v)

  lowered = jax.jit(sharded).lower(*inputs[:3]).as_text()
  assert "manual_computation" in lowered
  assert "tensor<1x29x2x64xf32>" in lowered  # one of four examples, two of four heads
  assert max(errors(values_and_cotangents(sharded, *inputs), values_and_cotangents(run, *inputs)).values()) <= 1e-6


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"head_dim": 48}, "serves head dimensions 16, 32, 64 and 128, got 48: choose xla"),
    ({"dtype": jnp.float16}, "all float32 or all bfloat16, got float16"),
    ({"order": "image_first"}, "serves order='text_first' and softmax='joint', got 'image_first' and 'joint'"),
    ({"softmax": "separate"}, "got 'text_first' and 'separate': choose reference or xla"),
    ({"grid": 130, "text": 0}, "serves rows of at most 128 tokens, got 130: choose xla"),
    (
      {"grid": 64, "kind": "full"},
      "serves kind='full' within 12 MiB of fast memory, and 4100 positions with heads of 64 in float32 need 5",
    ),
  ],
)
def test_what_the_kernel_does_not_serve_is_refused_in_one_line(change, message):
  sizes = {"text": 4, "grid": 3, "kind": "row"}
  pattern = Pattern(**sizes | {name: value for name, value in change.items() if name not in ("head_dim", "dtype")})
  shape = jax.ShapeDtypeStruct((1, pattern.length, 2, change.get("head_dim", 64)), change.get("dtype", jnp.float32))
  with pytest.raises(UserError, match=message) as caught:
    jax.eval_shape(functools.partial(interpreted, pattern=pattern), shape, shape, shape)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pallas_tpu", "splash"])
@pytest.mark.parametrize("compiled", [True, False])
def test_on_a_cpu_the_kernel_is_refused_in_one_line(name, compiled):
  pattern = Pattern(text=4, grid=3, kind="row")
  run = functools.partial(attend, pattern=pattern, implementation=name)
  with pytest.raises(UserError, match=f"{name} runs on TPU: choose xla here, or interpret=True"):
    (jax.jit(run) if compiled else run)(*drawn(pattern)[:3])


def test_two_rows_of_words_exchange_their_halves():
  even, odd = jnp.array([0x00020001, 0xFFFF0000], jnp.uint32), jnp.array([0x00040003, 0x0000FFFF], jnp.uint32)
  first, second = exchange(even, odd)
  np.testing.assert_array_equal(first, np.array([0x00030001, 0xFFFF0000], np.uint32))
  np.testing.assert_array_equal(second, np.array([0x00040002, 0x0000FFFF], np.uint32))
  for again, was in zip(exchange(first, second), (even, odd)):
    np.testing.assert_array_equal(again, was)
