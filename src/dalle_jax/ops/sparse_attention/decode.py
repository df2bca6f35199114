"""One image position after the other, with keys and values kept: what drawing does.

A cache holds all text keys, once for all samples of a caption, and of the image only those that its pattern can still
see: a ring of the last `slots` positions (grid + 1 for rows, rows x grid for convolutions), or the grid column by
column, where a column's keys lie side by side. A step's work does not depend on which position it is. What is given of
an image is read a row of the grid at a time. Text first, joint softmax.

C captions, R samples of each, B = C R rows, T text, P a prefix of the stream, L T + N, H heads, K head dim, S slots,
W grid, Y = S + W and X = T + Y keys.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.reference import MASKED, masked_softmax


class Cache(NamedTuple):
  """Keys and values of one layer: a caption's, and of each of its samples, which follow one another."""

  text_k_CHTK: Float[Array, "C H T K"]
  text_v_CHTK: Float[Array, "C H T K"]
  image_k_BHSK: Float[Array, "B H S K"]
  image_v_BHSK: Float[Array, "B H S K"]


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
  q_BPHK: Float[Array, "B P H K"], k_BPHK: Float[Array, "B P H K"], v_BPHK: Float[Array, "B P H K"], pattern: Pattern
) -> Float[Array, "B P H K"]:
  """Attention within the first P positions of the stream, which see no later one."""
  heads_first = (x.swapaxes(1, 2) for x in (q_BPHK, k_BPHK, v_BPHK))
  mask_PP = jnp.asarray(pattern.mask()[: q_BPHK.shape[1], : q_BPHK.shape[1]])
  return _attend(*heads_first, mask_PP).swapaxes(1, 2)


def prefill(cache: Cache, k_CTHK: Float[Array, "C T H K"], v_CTHK: Float[Array, "C T H K"], pattern: Pattern) -> Cache:
  """The cache after the text."""
  k_CHTK, v_CHTK = (x.swapaxes(1, 2).astype(cache.text_k_CHTK.dtype) for x in (k_CTHK, v_CTHK))
  return cache._replace(text_k_CHTK=k_CHTK, text_v_CHTK=v_CHTK)


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
  o_CHWK = _attend(q_CHWK, k_CHXK, v_CHXK, seen_WX)

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
) -> tuple[Float[Array, "B H K"], Cache]:
  """What image position j sees, its own key and value included, and the cache with them in it."""
  image_k_BHSK, k_BHSK = _put(cache.image_k_BHSK, k_BHK, j, pattern)
  image_v_BHSK, v_BHSK = _put(cache.image_v_BHSK, v_BHK, j, pattern)
  cache = cache._replace(image_k_BHSK=image_k_BHSK, image_v_BHSK=image_v_BHSK)
  position_S = _positions(j, pattern)
  seen_S = (position_S >= 0) & pattern.image_allowed(j, position_S)
  o_BHK = attend_both(q_BHK, cache.text_k_CHTK, cache.text_v_CHTK, k_BHSK, v_BHSK, seen_S)
  return o_BHK.astype(v_BHK.dtype), cache


def attend_both(
  q_BHK: Float[Array, "B H K"],
  shared_k_CHTK: Float[Array, "C H T K"],
  shared_v_CHTK: Float[Array, "C H T K"],
  k_BHSK: Float[Array, "B H S K"],
  v_BHSK: Float[Array, "B H S K"],
  seen_S: Bool[Array, " S"],
) -> Float[Array, "B H K"]:
  """One softmax over all T keys that a row shares with its like, and those of its own S that are seen."""
  scale = q_BHK.shape[-1] ** -0.5
  samples = q_BHK.shape[0] // shared_k_CHTK.shape[0]
  product = lambda axes, a, b: jnp.einsum(axes, a, b, precision=_precision(b))  # noqa: E731
  of_shared = lambda axes, a, b: _rows(product(axes, _by_caption(a, samples), b))  # noqa: E731
  shared_BHT = of_shared("CRHK,CHTK->CRHT", q_BHK, shared_k_CHTK).astype(jnp.float32) * scale
  own_BHS = product("BHK,BHSK->BHS", q_BHK, k_BHSK).astype(jnp.float32) * scale
  own_BHS = jnp.where(seen_S, own_BHS, MASKED)
  top = jnp.maximum(jnp.max(shared_BHT, axis=-1, initial=MASKED), jnp.max(own_BHS, axis=-1))[..., None]
  shared_BHT, own_BHS = jnp.exp(shared_BHT - top), jnp.exp(own_BHS - top)
  total_BH = jnp.sum(shared_BHT, axis=-1) + jnp.sum(own_BHS, axis=-1)
  o_BHK = of_shared("CRHT,CHTK->CRHK", shared_BHT.astype(v_BHSK.dtype), shared_v_CHTK)
  o_BHK += product("BHS,BHSK->BHK", own_BHS.astype(v_BHSK.dtype), v_BHSK)
  return o_BHK / total_BH[..., None].astype(o_BHK.dtype)


def _by_caption(x: Array, samples: int) -> Array:
  return x.reshape(-1, samples, *x.shape[1:])


def _rows(x: Array) -> Array:
  return x.reshape(-1, *x.shape[2:])


def _attend(
  q_BHQK: Float[Array, "B H Q K"], k_BHSK: Float[Array, "B H S K"], v_BHSK: Float[Array, "B H S K"], mask_QS: Array
) -> Float[Array, "B H Q K"]:
  scale, exact = q_BHQK.shape[-1] ** -0.5, _precision(q_BHQK)
  s_BHQS = jnp.einsum("BHQK,BHSK->BHQS", q_BHQK, k_BHSK, precision=exact) * scale
  p_BHQS = masked_softmax(s_BHQS.astype(jnp.float32), mask_QS[None, None]).astype(v_BHSK.dtype)
  return jnp.einsum("BHQS,BHSK->BHQK", p_BHQS, v_BHSK, precision=exact)


def _slot(j, pattern: Pattern):
  """Where image position j is kept; integers or arrays of them."""
  w = pattern.grid
  return (j % w) * w + j // w if pattern.kind == "column" else j % slots(pattern)


def _put(
  image_BHSK: Float[Array, "B H S K"], x_BHK: Float[Array, "B H K"], j: Int[Array, ""], pattern: Pattern
) -> tuple[Float[Array, "B H S K"], Float[Array, "B H W K"]]:
  """The cache with position j's key or value in it, and those of its slots that position j may see."""
  x_BH1K, at = x_BHK[:, :, None].astype(image_BHSK.dtype), _slot(j, pattern)
  if pattern.kind != "column":
    image_BHSK = lax.dynamic_update_slice_in_dim(image_BHSK, x_BH1K, at, axis=2)
    return image_BHSK, image_BHSK
  # The column is read before the cache is written, and what is written comes out of what was read: else XLA's CPU
  # compiler writes within the product that reads, and copies the whole cache to still have what was there before.
  w, first, row = pattern.grid, (j % pattern.grid) * pattern.grid, j // pattern.grid
  column_BHWK = lax.dynamic_slice_in_dim(image_BHSK, first, w, axis=2)
  column_BHWK = lax.optimization_barrier(lax.dynamic_update_slice_in_dim(column_BHWK, x_BH1K, row, axis=2))
  x_BH1K = lax.dynamic_slice_in_dim(column_BHWK, row, 1, axis=2)
  return lax.dynamic_update_slice_in_dim(image_BHSK, x_BH1K, at, axis=2), column_BHWK


def _positions(j: Int[Array, ""], pattern: Pattern) -> Int[Array, " S"]:
  """The image positions of what `_put` gives to look at (negative: nothing there yet)."""
  if pattern.kind == "column":
    return jnp.arange(pattern.grid) * pattern.grid + j % pattern.grid
  return _held(j, pattern)


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
