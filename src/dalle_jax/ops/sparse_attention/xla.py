"""The same attention with the work of the sparse patterns only, in plain XLA: for CPUs, and devices without a kernel.

Image queries go by rows of the grid. A row's W queries look at the text and at a window of R whole rows that ends with
their own, under one static mask [W, R W]; text and window share the softmax's maximum and denominator and are never
concatenated. Columns are rows of the transposed grid. Where everything is seen, blocks of rows look at what is before.

B batch, L stream, T text, N image, H heads, K head dim, W grid, G rows of queries, R rows of a window, Q S positions.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.reference import MASKED

TEXT_BLOCKS = 2  # parts of the text whose queries share their keys
FULL_BLOCKS = 8  # parts of the image whose queries share their keys, when all of the image is seen


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
) -> Float[Array, "B L H K"]:
  """What each position takes from those it sees; scores and softmax in float32, the result in the dtype of v."""
  start, n = pattern.image_start, pattern.image
  scaled = (q_BLHK * q_BLHK.shape[-1] ** -0.5, k_BLHK, v_BLHK)
  image = tuple(x[:, start : start + n].swapaxes(1, 2) for x in scaled)
  text = tuple((x[:, :start] if start else x[:, n:]).swapaxes(1, 2) for x in scaled)
  absent_B11T = None
  if text_lengths_B is not None:
    absent_B11T = (jnp.arange(pattern.text)[None] >= text_lengths_B[:, None])[:, None, None]
  text_first = pattern.order == "text_first"
  o_text = _text(text, None if text_first else image, absent_B11T, pattern)
  o_image = _image(image, text if text_first else None, absent_B11T, pattern)
  parts = (o_text, o_image) if text_first else (o_image, o_text)
  return jnp.concatenate([o.swapaxes(1, 2).astype(v_BLHK.dtype) for o in parts], axis=1)


def _text(text, image, absent_B11T, pattern: Pattern) -> Float[Array, "B H T K"]:
  q, k, v = text
  if not pattern.text:
    return v
  done = []
  for first, last in _blocks(pattern.text, TEXT_BLOCKS):
    mask = jnp.asarray(np.arange(first, last)[:, None] >= np.arange(last)[None])[None, None]
    mask = mask if absent_B11T is None else mask & ~absent_B11T[..., :last]
    parts = [(_scores(q[:, :, first:last], k[:, :, :last], mask), v[:, :, :last])]
    if image is not None:
      parts.append((_scores(q[:, :, first:last], image[1], None), image[2]))
    done.append(_mix(parts, pattern.softmax))
  return jnp.concatenate(done, axis=2)


def _image(image, text, absent_B11T, pattern: Pattern) -> Float[Array, "B H N K"]:
  if pattern.kind == "full":
    return _full(image, text, absent_B11T, pattern)
  w, transpose = pattern.grid, pattern.kind == "column"
  q_BHGWK, k_BHGWK, v_BHGWK = (_rows(x, w, transpose) for x in image)
  mask_GWS = window_mask(pattern)
  rows = mask_GWS.shape[-1] // w
  mask = jnp.asarray(mask_GWS)[None, None]
  parts = [(_scores(q_BHGWK, _windows(k_BHGWK, rows), mask), _windows(v_BHGWK, rows))]
  if text is not None and pattern.text:
    absent = None if absent_B11T is None else ~absent_B11T[:, :, :, None]
    # One product for all rows: the text is not repeated for each.
    s_BHNT = _scores(q_BHGWK.reshape(*q_BHGWK.shape[:2], -1, q_BHGWK.shape[-1]), text[1], None)
    s = s_BHNT.reshape(*q_BHGWK.shape[:4], -1)
    parts.insert(0, (s if absent is None else jnp.where(absent, s, MASKED), text[2]))
  o_BHGWK = _mix(parts, pattern.softmax)
  o_BHGWK = o_BHGWK.swapaxes(2, 3) if transpose else o_BHGWK
  return o_BHGWK.reshape(*o_BHGWK.shape[:2], -1, o_BHGWK.shape[-1])


def window_mask(pattern: Pattern) -> Bool[np.ndarray, "G W S"]:
  """For each row of queries (column, for columns), which keys of its window are seen; none before the image is."""
  w = pattern.grid
  if pattern.kind == "column":
    return np.broadcast_to(np.tri(w, dtype=bool), (w, w, w))
  query_GW1 = np.arange(w * w).reshape(w, w, 1)
  first_G11 = (np.arange(w).reshape(w, 1, 1) - pattern.reach + 1) * w
  key_G1S = first_G11 + np.arange(pattern.reach * w)
  return (key_G1S >= 0) & pattern.image_allowed(query_GW1, key_G1S)


def _full(image, text, absent_B11T, pattern: Pattern) -> Float[Array, "B H N K"]:
  q, k, v = image
  done = []
  for first, last in _blocks(pattern.image, FULL_BLOCKS):
    mask = jnp.asarray(np.arange(first, last)[:, None] >= np.arange(last)[None])[None, None]
    parts = [(_scores(q[:, :, first:last], k[:, :, :last], mask), v[:, :, :last])]
    if text is not None and pattern.text:
      absent = None if absent_B11T is None else ~absent_B11T
      parts.insert(0, (_scores(q[:, :, first:last], text[1], absent), text[2]))
    done.append(_mix(parts, pattern.softmax))
  return jnp.concatenate(done, axis=2)


def _blocks(size: int, count: int) -> list[tuple[int, int]]:
  """First and last + 1 of that many parts of nearly the same size, or of fewer."""
  step = math.ceil(size / count)
  return [(first, min(first + step, size)) for first in range(0, size, step)]


def _rows(x_BHNK: Array, w: int, transpose: bool) -> Float[Array, "B H G W K"]:
  x_BHGWK = x_BHNK.reshape(*x_BHNK.shape[:2], w, w, x_BHNK.shape[-1])
  return x_BHGWK.swapaxes(2, 3) if transpose else x_BHGWK


def _windows(x_BHGWK: Array, rows: int) -> Float[Array, "B H G S K"]:
  """Each row behind the rows - 1 before it; zeros before the first."""
  if rows == 1:
    return x_BHGWK
  grid = x_BHGWK.shape[2]
  padded = jnp.pad(x_BHGWK, ((0, 0), (0, 0), (rows - 1, 0), (0, 0), (0, 0)))
  return jnp.concatenate([padded[:, :, r : r + grid] for r in range(rows)], axis=3)


def _scores(q: Array, k: Array, mask: Array | None) -> Float[Array, "*batch Q S"]:
  s = jnp.einsum("...QK,...SK->...QS", q, k, precision=_precision(q), preferred_element_type=jnp.float32)
  return s if mask is None else jnp.where(mask, s, MASKED)


def _mix(parts: list[tuple[Array, Array]], softmax: str) -> Array:
  """The values of all parts by the softmax of their scores, shared by the parts ("joint") or each part's own, added."""
  if softmax == "separate":
    return sum(_mix([part], "joint") for part in parts)
  top = jnp.max(parts[0][0], axis=-1, keepdims=True)
  for s, _ in parts[1:]:
    top = jnp.maximum(top, jnp.max(s, axis=-1, keepdims=True))
  # A row without a single key has a maximum of MASKED: raised, so that its weights are 0.
  top = lax.stop_gradient(jnp.maximum(top, MASKED / 2))
  o = 0
  for s, v in parts:
    # Behind the values a column of ones: its product is the sum of the weights, without a pass over them.
    o += _weigh(jnp.exp(s - top), jnp.concatenate([v, jnp.ones((*v.shape[:-1], 1), v.dtype)], axis=-1))
  return o[..., :-1] / jnp.maximum(o[..., -1:], 1e-30)


def _weigh(p: Array, v: Array) -> Array:
  """p @ v in float32; where p has rows of queries and v has none (text), as one product."""
  product = lambda p, v: jnp.einsum(  # noqa: E731
    "...QS,...SK->...QK", p.astype(v.dtype), v, precision=_precision(v), preferred_element_type=jnp.float32
  )
  if p.ndim == v.ndim:
    return product(p, v)
  o_BHNK = product(p.reshape(*p.shape[:2], -1, p.shape[-1]), v)
  return o_BHNK.reshape(*p.shape[:-1], v.shape[-1])


def _precision(x: Array) -> lax.Precision | None:
  return lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
