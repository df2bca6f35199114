"""Cached decoding: each step is the full attention's row, after the text and after rows that are given; sizes, work."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.ops.sparse_attention import Pattern, decode
from dalle_jax.ops.sparse_attention.patterns import KINDS

TEXT, GRID = 4, 5
IMAGE = GRID**2
QUICK = {"xla_backend_optimization_level": 0}


def small(kind):
  return Pattern(text=TEXT, grid=GRID, kind=kind, kernel=3)


@functools.cache
def inputs():
  rng = np.random.default_rng(0)
  return tuple(jnp.asarray(s * rng.normal(size=(2, TEXT + IMAGE, 2, 8)), jnp.float32) for s in (2.0, 1.5, 1.0))


def full(pattern):
  """jax's own attention over the whole stream at once."""
  q, k, v = inputs()
  return np.asarray(jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(pattern.mask())[None, None]))


def dirty_cache(pattern):
  """An empty cache whose places hold numbers that would show."""
  empty = decode.init_cache(pattern, 2, 2, 8, "float32")
  assert all((x == 0).all() for x in jax.tree.leaves(empty))
  return jax.tree.map(lambda x: jnp.full_like(x, 50.0), empty)


@functools.cache
def compiled(kind):
  """The text with the cache after it, the rows that hold what is given, and steps, for a kind."""
  pattern = small(kind)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def start(cache, q, k, v):
    return decode.attend_prefix(q, k, v, pattern), decode.prefill(cache, k, v, pattern)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def rows(cache, q, k, v, given):
    """Rows from the first on, as many as have a position that is given; the others are left as zeros."""

    def one(row, carry):
      o_BNHK, cache = carry
      at_W = TEXT + row * GRID + jnp.arange(GRID)
      which = decode.Row(row, given)
      o_BWHK, cache = decode.read_row(q[:, at_W], k[:, at_W], v[:, at_W], cache, which, pattern)
      return o_BNHK.at[:, at_W - TEXT].set(o_BWHK), cache

    return jax.lax.fori_loop(0, -(-given // GRID), one, (jnp.zeros_like(q[:, TEXT:]), cache))

  @functools.partial(jax.jit, compiler_options=QUICK)
  def steps(cache, q, k, v, first, last):
    """Steps from `first` to before `last`, one after the other; the others are left as zeros."""

    def one(j, carry):
      o_NBHK, cache = carry
      at = TEXT + j
      o, cache = decode.decode_step(q[:, at], k[:, at], v[:, at], cache, j, pattern)
      return o_NBHK.at[j].set(o), cache

    zeros = jnp.zeros((IMAGE, *q[:, 0].shape))
    o_NBHK, cache = jax.lax.fori_loop(first, last, one, (zeros, cache))
    return o_NBHK.swapaxes(0, 1), cache

  return start, rows, steps


GIVEN = (0, 3, GRID, 13, IMAGE - 1, IMAGE)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_and_each_step_is_the_full_attention_s(kind, given):
  start, rows, steps = compiled(kind)
  expected = full(small(kind))
  assert decode.slots(small(kind)) < IMAGE or kind in ("full", "column")
  prefix, cache = start(dirty_cache(small(kind)), *(x[:, :TEXT] for x in inputs()))
  read, cache = rows(cache, *inputs(), jnp.int32(given))
  drawn, _ = steps(cache, *inputs(), given, IMAGE)
  whole_rows = -(-given // GRID) * GRID
  size = np.abs(expected).max()
  assert np.abs(prefix - expected[:, :TEXT]).max() <= 2e-6 * size
  assert np.abs(read[:, :whole_rows] - expected[:, TEXT:][:, :whole_rows]).max(initial=0) <= 2e-6 * size
  assert np.abs(drawn[:, given:] - expected[:, TEXT + given :]).max(initial=0) <= 2e-6 * size
  assert (read[:, whole_rows:] == 0).all()
  assert (drawn[:, :given] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_leave_the_cache_that_steps_leave(kind):
  start, rows, steps = compiled(kind)
  _, empty = start(dirty_cache(small(kind)), *(x[:, :TEXT] for x in inputs()))
  for given in GIVEN:
    _, read = rows(empty, *inputs(), jnp.int32(given))
    _, stepped = steps(empty, *inputs(), 0, given)
    for name, x in read._asdict().items():
      np.testing.assert_array_equal(x, getattr(stepped, name), err_msg=f"{name} of {given} given")
    kept = (read.image_k_BHSK != 50).any((0, 1, 3)).sum()  # of the slots, which `dirty_cache` marks
    assert kept == min(given, decode.slots(small(kind)))


@pytest.mark.parametrize("kind", ["row", "conv"])
def test_a_ring_that_is_too_small_is_noticed(monkeypatch, kind):
  needed = decode.slots(small(kind)) - 1  # a position's own key is not read from there
  monkeypatch.setattr(decode, "slots", lambda pattern: needed - 1)
  compiled.cache_clear()
  try:
    with pytest.raises(AssertionError):
      test_each_row_and_each_step_is_the_full_attention_s(kind, 0)
  finally:
    compiled.cache_clear()


def test_the_pattern_matters_to_a_step():
  expected = [full(small(kind)) for kind in KINDS]
  for i, a in enumerate(expected):
    assert all(np.abs(a - b).max() > 0.1 for b in expected[:i])


@pytest.mark.parametrize(
  ("kind", "slots"),
  [
    ("row", 33),
    ("row_only", 32),
    ("conv", 192),
    ("conv_clamped", 192),
    ("conv_corner", 331),
    ("column", 1024),
    ("full", 1024),
  ],
)
def test_a_cache_holds_what_its_pattern_can_still_see(kind, slots):
  pattern = Pattern(text=256, grid=32, kind=kind)
  assert decode.slots(pattern) == slots
  query, key = np.nonzero(pattern.mask()[256:, 256:])
  if kind != "column":
    assert (query - key).max() < slots
  cache = jax.eval_shape(lambda: decode.init_cache(pattern, 3, 2, 64, "bfloat16"))
  assert {x.shape for x in jax.tree.leaves(cache)} == {(3, 2, 256, 64), (3, 2, slots, 64)}
  assert {x.dtype for x in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}


def test_a_small_grid_needs_no_more_slots_than_positions():
  assert decode.slots(Pattern(text=1, grid=4, kind="conv_corner")) == 16


@pytest.mark.parametrize("scan", [True, False])
def test_the_12_billion_model_caches_287_7_megabytes_of_image_a_sample(scan):
  caches = jax.eval_shape(lambda: transformer.init_caches(transformer.Config(dtype="bfloat16", scan=scan), 1))
  layers = jax.tree.leaves(caches, is_leaf=lambda x: isinstance(x, decode.Cache))
  size = lambda name: sum(getattr(c, name).size * 2 for c in layers)  # noqa: E731
  image, text = (size(f"{what}_k_{a}K") + size(f"{what}_v_{a}K") for what, a in (("image", "BHS"), ("text", "CHT")))
  assert image == 2 * 2 * 3968 * (47 * 33 + 16 * 1024 + 192)
  assert round(image / 1e6, 1) == 287.7
  assert round(text / 1e6) == 260  # once a caption, whatever the number of samples


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_s_work_does_not_depend_on_its_position_and_is_that_of_the_window(kind):
  pattern = Pattern(text=16, grid=16, kind=kind, kernel=5)
  cache = jax.eval_shape(lambda: decode.init_cache(pattern, 1, 2, 64, "float32"))
  x = jax.ShapeDtypeStruct((1, 2, 64), jnp.float32)

  def flops(j):
    """With the position known to the compiler, or an argument."""
    if j is None:
      j = jax.ShapeDtypeStruct((), jnp.int32)
      lowered = jax.jit(lambda *a: decode.decode_step(*a, pattern)).lower(x, x, x, cache, j)
    else:
      lowered = jax.jit(lambda *a: decode.decode_step(*a, jnp.int32(j), pattern)).lower(x, x, x, cache)
    return lowered.compile(compiler_options=QUICK).cost_analysis()["flops"]

  counts = [flops(j) for j in (None, 0, 100, 255)]
  window = 16 if kind == "column" else decode.slots(pattern)
  products = 2 * 2 * 2 * 64 * (16 + window)  # scores and values, two heads
  assert all(products < count < 1.5 * products for count in counts)
  assert max(counts) - min(counts) < 0.1 * products


@pytest.mark.parametrize("kind", ["row", "column"])
def test_every_product_of_a_step_is_asked_for_at_the_highest_precision(kind):
  start, rows, steps = compiled(kind)
  cache = dirty_cache(small(kind))
  text = start.lower(cache, *inputs()).as_text() + rows.lower(cache, *inputs(), jnp.int32(3)).as_text()
  text += steps.lower(cache, *inputs(), 0, IMAGE).as_text()
  products = re.findall(r"stablehlo\.dot_general.*", text)
  assert len(products) >= 8  # two over a prefix, two over a row, four in a step
  assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


@pytest.mark.parametrize("wrong", [{"order": "image_first"}, {"softmax": "separate"}])
def test_what_cannot_be_drawn_is_refused(wrong):
  with pytest.raises(UserError, match="drawing needs text first and a joint softmax"):
    decode.init_cache(Pattern(text=2, grid=3, **wrong), 1, 1, 4, "float32")


@pytest.mark.parametrize("kind", ["row", "column", "conv", "full"])
def test_a_step_copies_no_cache(kind):
  """Beside the copies that the loop begins with, because its input is not given away."""
  pattern = Pattern(text=4, grid=8, kind=kind, kernel=3)
  cache = decode.repeat(decode.init_cache(pattern, 1, 2, 16, "float32"), 8)
  x_BHK = jnp.ones((8, 2, 16))

  def step(carry, j):
    x_BHK, cache = carry
    o_BHK, cache = decode.decode_step(x_BHK, x_BHK, x_BHK, cache, j, pattern)
    return (o_BHK, cache), None

  run = jax.jit(lambda x_BHK, cache: jax.lax.scan(step, (x_BHK, cache), jnp.arange(64))[0][0])
  text = run.lower(x_BHK, cache).compile().as_text()
  whole = f"f32[8,2,{decode.slots(pattern)},16]"
  assert whole in text
  copies = [line for line in text.splitlines() if " copy(" in line and whole in line.split(" copy(")[0]]
  assert len(copies) <= 2
