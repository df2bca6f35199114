"""One image position after the other, with keys and values kept: what drawing does.

A cache holds all text keys, once for all samples of a caption, and of the image only those that its pattern can still
see: a ring of the last `slots` positions (grid + 1 for rows, rows x grid for convolutions), or the grid column by
column, where a column's keys lie side by side. A step's work does not depend on which position it is. What is given of
an image is read a row of the grid at a time. Text first, joint softmax.

C captions, R samples of each, B = C R rows, T text, P a prefix of the stream, L T + N, H heads, K head dim, S slots,
M slots that a position may see, W grid, Y = S + W and X = T + Y keys.
"""

import functools
import logging
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention.pallas_gpu import drawing
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.reference import MASKED, masked_softmax


class Cache(NamedTuple):
  """Keys and values of one layer: a caption's, and of each of its samples, which follow one another.

  text_length_C: text keys at or past it are not seen; None where all are.
  """

  text_k_CHTK: Float[Array, "C H T K"]
  text_v_CHTK: Float[Array, "C H T K"]
  image_k_BHSK: Float[Array, "B H S K"]
  image_v_BHSK: Float[Array, "B H S K"]
  text_length_C: Int[Array, " C"] | None = None


class Row(NamedTuple):
  """A row of the grid, and how many positions of the image are given: those of the row before that one are."""

  row: Int[Array, ""]
  given: Int[Array, ""]


def slots(pattern: Pattern) -> int:
  """Image keys that a layer's cache holds."""
  half = (pattern.kernel - 1) // 2
  rings = {"row": pattern.grid + 1, "row_only": pattern.grid, "conv": (half + 1) * pattern.grid}
  rings |= {
    "conv_corner": (pattern.kernel - 1) * pattern.grid + pattern.kernel,
    "conv_clamped": (half + 1) * pattern.grid,
  }
  return min(rings.get(pattern.kind, pattern.image), pattern.image)


def init_cache(pattern: Pattern, batch: int, heads: int, head_dim: int, dtype: jnp.dtype | str) -> Cache:
  """An empty cache. Raises UserError for a pattern that can't be drawn from text."""
  if pattern.order != "text_first" or pattern.softmax != "joint":
    raise UserError(f"drawing needs text first and a joint softmax, got {pattern.order} and {pattern.softmax}")
  shape = lambda n: jnp.zeros((batch, heads, n, head_dim), dtype)  # noqa: E731
  return Cache(shape(pattern.text), shape(pattern.text), shape(slots(pattern)), shape(slots(pattern)))


def repeat(cache: Cache, samples: int) -> Cache:
  """The cache of a caption's one row, for so many samples of it."""
  rows = lambda x: jnp.repeat(x, samples, axis=0)  # noqa: E731
  return cache._replace(image_k_BHSK=rows(cache.image_k_BHSK), image_v_BHSK=rows(cache.image_v_BHSK))


def attend_prefix(
  q_BPHK: Float[Array, "B P H K"],
  k_BPHK: Float[Array, "B P H K"],
  v_BPHK: Float[Array, "B P H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
) -> Float[Array, "B P H K"]:
  """Attention within the first P positions of the stream, which see no later one; of text first those of the text."""
  heads_first = (x.swapaxes(1, 2) for x in (q_BPHK, k_BPHK, v_BPHK))
  mask_PP = jnp.asarray(pattern.mask()[: q_BPHK.shape[1], : q_BPHK.shape[1]])
  present_BHPP = None if text_lengths_B is None else _present(text_lengths_B, q_BPHK.shape[1])
  return _attend(*heads_first, mask_PP, present_BHPP).swapaxes(1, 2)


def prefill(
  cache: Cache,
  k_CTHK: Float[Array, "C T H K"],
  v_CTHK: Float[Array, "C T H K"],
  pattern: Pattern,
  text_length_C: Int[Array, " C"] | None = None,
) -> Cache:
  """The cache after the text, of which keys at or past its length, where one is given, are not seen."""
  k_CHTK, v_CHTK = (x.swapaxes(1, 2).astype(cache.text_k_CHTK.dtype) for x in (k_CTHK, v_CTHK))
  return cache._replace(text_k_CHTK=k_CHTK, text_v_CHTK=v_CHTK, text_length_C=text_length_C)


def read_row(
  q_CWHK: Float[Array, "C W H K"],
  k_CWHK: Float[Array, "C W H K"],
  v_CWHK: Float[Array, "C W H K"],
  cache: Cache,
  row: Row,
  pattern: Pattern,
) -> tuple[Float[Array, "C W H K"], Cache]:
  """What a row of the grid sees after all rows before it, and the cache that steps over what is given of it leave.

  The cache is of one sample a caption. Positions that are not given see what they see in a stream that goes on so.
  """
  first = row.row * pattern.grid
  at_W = first + jnp.arange(pattern.grid)
  before_S, after_S = (_held(j, pattern) for j in (first - 1, jnp.minimum(first + pattern.grid, row.given) - 1))
  # A ring may have no room for keys that the row's own beginning sees beside those of its end: it is read as it was.
  q_CHWK, k_CHWK, v_CHWK = (x.swapaxes(1, 2) for x in (q_CWHK, k_CWHK, v_CWHK))
  k_CHXK = jnp.concatenate([cache.text_k_CHTK, cache.image_k_BHSK, k_CHWK], axis=2)
  v_CHXK = jnp.concatenate([cache.text_v_CHTK, cache.image_v_BHSK, v_CHWK], axis=2)
  key_1Y = jnp.concatenate([before_S, at_W])[None]
  seen_WY = (key_1Y >= 0) & pattern.image_allowed(at_W[:, None], key_1Y)
  seen_WX = jnp.pad(seen_WY, ((0, 0), (pattern.text, 0)), constant_values=True)
  present_CHWX = None
  if cache.text_length_C is not None:
    after = ((0, 0), (0, 0), (0, 0), (0, seen_WY.shape[1]))
    present_CHWX = jnp.pad(_present(cache.text_length_C, pattern.text), after, constant_values=True)
  o_CHWK = _attend(q_CHWK, k_CHXK, v_CHXK, seen_WX, present_CHWX)

  def keep(image_CHSK: Array, x_CHWK: Array) -> Array:
    x_CHSK = jnp.take(x_CHWK, after_S - first, axis=2, mode="clip").astype(image_CHSK.dtype)
    return jnp.where((after_S >= first)[None, None, :, None], x_CHSK, image_CHSK)

  k_CHSK, v_CHSK = keep(cache.image_k_BHSK, k_CHWK), keep(cache.image_v_BHSK, v_CHWK)
  return o_CHWK.swapaxes(1, 2), cache._replace(image_k_BHSK=k_CHSK, image_v_BHSK=v_CHSK)


def decode_step(
  q_BHK: Float[Array, "B H K"],
  k_BHK: Float[Array, "B H K"],
  v_BHK: Float[Array, "B H K"],
  cache: Cache,
  j: Int[Array, ""],
  pattern: Pattern,
  implementation: str = "xla",
) -> tuple[Float[Array, "B H K"], Cache]:
  """What image position j sees, its own key and value included, and the cache with them in it.

  implementation: the model's; with "auto" or "pallas_gpu" one kernel does it where it can (`drawing.serves`).
  """
  if implementation in ("auto", "pallas_gpu") and _kernel_serves(q_BHK, cache, pattern):
    far_N = drawing.distances(pattern)
    slot_N = _slot(jnp.maximum(j - far_N, 0), pattern).astype(jnp.int32)
    o_BHK = drawing.attend_one(q_BHK, k_BHK, v_BHK, *cache[:4], slot_N, jnp.sum(far_N <= j, dtype=jnp.int32))
  else:
    o_BHK = _attend_one(q_BHK, k_BHK, v_BHK, cache, j, pattern)
  at = _slot(j, pattern)
  k_BHSK, v_BHSK = (put(x, y, at, o_BHK) for x, y in ((cache.image_k_BHSK, k_BHK), (cache.image_v_BHSK, v_BHK)))
  return o_BHK, cache._replace(image_k_BHSK=k_BHSK, image_v_BHSK=v_BHSK)


def _kernel_serves(q_BHK: Array, cache: Cache, pattern: Pattern) -> bool:
  captions, (batch, _, head_dim) = cache.text_k_CHTK.shape[0], q_BHK.shape
  dtypes = (str(x.dtype) for x in cache[:4])
  serves = cache.text_length_C is None and drawing.serves(pattern, captions, batch, head_dim, *dtypes)
  if drawing.hopper():
    _tell(serves, pattern)
  return serves


@functools.lru_cache(maxsize=64)
def _tell(serves: bool, pattern: Pattern) -> None:
  """Logs, once, what draws where there is a choice."""
  how = "our kernel" if serves else "the structured path"
  logging.getLogger("dalle_jax").info("drawing: %s for %s", how, pattern)


def _attend_one(q_BHK: Array, k_BHK: Array, v_BHK: Array, cache: Cache, j: Array, pattern: Pattern) -> Array:
  position_S = _positions(j, pattern)
  seen_S = (position_S >= 0) & (position_S < j) & pattern.image_allowed(j, position_S)
  image = (_may_see(x, j, pattern) for x in (cache.image_k_BHSK, cache.image_v_BHSK))
  text = cache.text_k_CHTK, cache.text_v_CHTK
  return attend_both(q_BHK, k_BHK, v_BHK, *text, *image, seen_S, cache.text_length_C).astype(v_BHK.dtype)


def put(
  kept_BHSK: Float[Array, "B H S K"],
  x_BHK: Float[Array, "B H K"],
  slot: Int[Array, ""],
  read_BHK: Float[Array, "B H K"],
) -> Float[Array, "B H S K"]:
  """The cache with a position's key or value in its slot, once what was read of the cache is there.

  Adding nothing of what was read puts the writing after it. XLA's CPU compiler would else write first, and copy the
  whole cache to still have what was there before.
  """
  x_BH1K = (x_BHK + 0 * read_BHK)[:, :, None].astype(kept_BHSK.dtype)
  return lax.dynamic_update_slice_in_dim(kept_BHSK, x_BH1K, slot, axis=2)


def attend_both(
  q_BHK: Float[Array, "B H K"],
  k_BHK: Float[Array, "B H K"],
  v_BHK: Float[Array, "B H K"],
  shared_k_CHTK: Float[Array, "C H T K"],
  shared_v_CHTK: Float[Array, "C H T K"],
  own_k_BHSK: Float[Array, "B H S K"],
  own_v_BHSK: Float[Array, "B H S K"],
  seen_S: Bool[Array, " S"],
  shared_length_C: Int[Array, " C"] | None = None,
) -> Float[Array, "B H K"]:
  """One softmax over a position's own key, the T that its row shares with its like, and those of the row's S seen.

  shared_length_C: how many of the T there are; all if None.
  """
  scale = q_BHK.shape[-1] ** -0.5
  samples = q_BHK.shape[0] // shared_k_CHTK.shape[0]
  product = lambda axes, a, b: jnp.einsum(axes, a, b, precision=_precision(b))  # noqa: E731
  shared_BHT = _rows(product("CHRK,CHTK->CHRT", _by_caption(q_BHK, samples), shared_k_CHTK)).astype(jnp.float32) * scale
  if shared_length_C is not None:
    present_BHT = jnp.repeat(_present(shared_length_C, shared_BHT.shape[-1])[:, 0], samples, axis=0)
    shared_BHT = jnp.where(present_BHT, shared_BHT, MASKED)
  own_BHS = product("BHK,BHSK->BHS", q_BHK, own_k_BHSK).astype(jnp.float32) * scale
  own_BHS = jnp.where(seen_S, own_BHS, MASKED)
  self_BH1 = product("BHK,BHK->BH", q_BHK, k_BHK).astype(jnp.float32)[..., None] * scale
  top = lambda x: jnp.max(x, axis=-1, keepdims=True, initial=MASKED)  # noqa: E731
  top_BH1 = jnp.maximum(jnp.maximum(top(shared_BHT), top(own_BHS)), self_BH1)
  shared_BHT, own_BHS, self_BH1 = (jnp.exp(x - top_BH1) for x in (shared_BHT, own_BHS, self_BH1))
  total_BH1 = sum(jnp.sum(x, axis=-1, keepdims=True) for x in (shared_BHT, own_BHS, self_BH1))
  dtype = v_BHK.dtype
  o_BHK = _rows(product("CHRT,CHTK->CHRK", _by_caption(shared_BHT.astype(dtype), samples), shared_v_CHTK))
  o_BHK += product("BHS,BHSK->BHK", own_BHS.astype(dtype), own_v_BHSK)
  o_BHK += self_BH1.astype(dtype) * v_BHK
  return o_BHK / total_BH1.astype(o_BHK.dtype)


def _by_caption(x_BHX: Array, samples: int) -> Array:
  """[C, H, R, X]: the rows of a caption beside each other, as a product with what they share reads them."""
  return x_BHX.reshape(-1, samples, *x_BHX.shape[1:]).swapaxes(1, 2)


def _rows(x_CHRX: Array) -> Array:
  return x_CHRX.swapaxes(1, 2).reshape(-1, x_CHRX.shape[1], x_CHRX.shape[3])


def _attend(
  q_BHQK: Float[Array, "B H Q K"],
  k_BHSK: Float[Array, "B H S K"],
  v_BHSK: Float[Array, "B H S K"],
  mask_QS: Array,
  present_BHQS: Array | None = None,
) -> Float[Array, "B H Q K"]:
  scale, exact = q_BHQK.shape[-1] ** -0.5, _precision(q_BHQK)
  s_BHQS = jnp.einsum("BHQK,BHSK->BHQS", q_BHQK, k_BHSK, precision=exact) * scale
  mask_BHQS = mask_QS[None, None]
  mask_BHQS = mask_BHQS if present_BHQS is None else mask_BHQS & present_BHQS
  p_BHQS = masked_softmax(s_BHQS.astype(jnp.float32), mask_BHQS).astype(v_BHSK.dtype)
  return jnp.einsum("BHQS,BHSK->BHQK", p_BHQS, v_BHSK, precision=exact)


def _present(length_B: Int[Array, " B"], keys: int) -> Bool[Array, "B H Q S"]:
  """Which of so many text keys there are, for all heads and queries alike."""
  return (jnp.arange(keys)[None] < length_B[:, None])[:, None, None]


def _slot(j, pattern: Pattern):
  """Where image position j is kept; integers or arrays of them."""
  w = pattern.grid
  return (j % w) * w + j // w if pattern.kind == "column" else j % slots(pattern)


def _may_see(image_BHSK: Float[Array, "B H S K"], j: Int[Array, ""], pattern: Pattern) -> Float[Array, "B H M K"]:
  """Those of a cache's keys or values that position j may see."""
  if pattern.kind != "column":
    return image_BHSK
  return lax.dynamic_slice_in_dim(image_BHSK, (j % pattern.grid) * pattern.grid, pattern.grid, axis=2)


def _positions(j: Int[Array, ""], pattern: Pattern) -> Int[Array, " S"]:
  """The image positions of what `_may_see` gives before j is kept (negative, or j and more: nothing that counts)."""
  if pattern.kind == "column":
    return jnp.arange(pattern.grid) * pattern.grid + j % pattern.grid
  return _held(j - 1, pattern)


def _held(j: Int[Array, ""], pattern: Pattern) -> Int[Array, " S"]:
  """The image position that each slot holds after position j (negative: none yet)."""
  size = slots(pattern)
  if pattern.kind == "column":
    position_S = _slot(jnp.arange(size), pattern)  # rows and columns change places, whichever way one goes
    return jnp.where(position_S <= j, position_S, -1)
  # Slot s holds the newest position that is s modulo the ring's size and not after j.
  return j - (j - jnp.arange(size)) % size


def _precision(x: Array) -> lax.Precision | None:
  return lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
