"""The bodies of the kernels: tiles of queries of one group of heads, against the keys that each of them reads.

S slots of the stream, D 128 lanes of a group's heads, Q stacked queries of a tile (every head's in turn), C keys of one
product, R the eight rows of statistics. References are indexed by slot, whatever part of the stream they hold.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from dalle_jax.ops.sparse_attention.pallas_tpu.spec import LANES, Spec
from dalle_jax.ops.sparse_attention.reference import MASKED
from dalle_jax.ops.sparse_attention.tiles import TILE, Keys, Tile

LOG2_E = math.log2(math.e)


def forward(tiles: Sequence[Tile], spec: Spec, q_ref, k_ref, v_ref, mask_ref, *refs) -> None:
  """o [1, S, D] and, where a reference for it is given, log2 of the sums of exponents [1, 1, R, S]."""
  absent_ref, outputs = (refs[0], refs[1:]) if spec.padded else (None, refs)
  o_ref, lse_ref = (*outputs, None)[:2]

  to_exponent = _to_exponent(spec.head_dim)

  def scores(tile: Tile) -> list[Array]:
    q_QD = _scaled(q_ref, tile, spec.head_dim)
    return [_scores(q_QD, keys, k_ref, mask_ref, absent_ref) for keys in tile.keys]

  def weigh(tile: Tile, s: list[Array]) -> None:
    top_Q1 = functools.reduce(jnp.maximum, _lanes(s)).max(axis=1, keepdims=True)
    if spec.padded:  # a position without a single key has a top of MASKED: raised, so that its weights are 0
      top_Q1 = jnp.maximum(top_Q1, MASKED / 2)
    p = [jnp.exp2((s_QC - top_Q1) * to_exponent) for s_QC in s]
    total_Q1 = functools.reduce(jnp.add, _lanes(p)).sum(axis=1, keepdims=True)
    if spec.padded:
      total_Q1 = jnp.maximum(total_Q1, 1e-30)
    parts = [_dot(p_QC, v_ref[0, keys.start : keys.stop], (1, 0)) for p_QC, keys in zip(p, tile.keys)]
    o_QD = functools.reduce(jnp.add, parts) * (1 / total_Q1)
    o_ref[0, _queries(tile)] = _own_lanes(o_QD, spec.head_dim).astype(o_ref.dtype)
    if lse_ref is not None:
      lse_ref[0, 0, :, _queries(tile)] = _as_rows(top_Q1 * to_exponent + jnp.log2(total_Q1))

  _one_ahead(tiles, scores, weigh)


def backward(
  tiles: Sequence[Tile],
  spec: Spec,
  begun: set[int],
  q_ref,
  k_ref,
  v_ref,
  o_ref,
  do_ref,
  lse_ref,
  mask_ref,
  absent_ref,
  dq_ref,
  dk_SD,
  dv_SD,
) -> None:
  """dq of the tiles; what they add to the float32 sums of dk (`finish` scales it) and dv.

  begun: the starts of the tiles of slots whose sums hold something; others are set, not added to.
  """
  shared: dict[int, tuple[Array, ...]] = {}  # by the tile's start: what its parts of keys have in common
  dq: dict[int, Array] = {}

  def scores(part: tuple[Tile, Keys]) -> tuple[Array, Array]:
    tile, keys = part
    if keys == tile.keys[0]:
      q_QD, do_QD = _scaled(q_ref, tile, spec.head_dim), _stacked(do_ref[0, _queries(tile)], spec.head_dim)
      o_QD = jnp.concatenate([o_ref[0, _queries(tile)].astype(jnp.float32)] * (LANES // spec.head_dim), axis=0)
      delta_Q1 = (do_QD.astype(jnp.float32) * o_QD).sum(axis=1, keepdims=True)
      shared[tile.start] = q_QD, do_QD, delta_Q1, _as_columns(lse_ref[0, 0, :, _queries(tile)], spec.head_dim)
    q_QD, do_QD, *_ = shared[tile.start]
    return _scores(q_QD, keys, k_ref, mask_ref, absent_ref), _dot(do_QD, v_ref[0, keys.start : keys.stop], (1, 1))

  def weigh(part: tuple[Tile, Keys], products: tuple[Array, Array]) -> None:
    (tile, keys), (s_QC, dp_QC) = part, products
    q_QD, do_QD, delta_Q1, lse_Q1 = shared[tile.start]
    p_QC = jnp.exp2(s_QC * _to_exponent(spec.head_dim) - lse_Q1)
    ds_QC = p_QC * (dp_QC - delta_Q1)
    _add(dk_SD, keys, _dot(ds_QC, q_QD, (0, 0)), begun)
    _add(dv_SD, keys, _dot(p_QC, do_QD, (0, 0)), begun)
    begun.update(range(keys.start, keys.stop, TILE))
    dq_QD = _dot(ds_QC, k_ref[0, keys.start : keys.stop], (1, 0))
    dq[tile.start] = dq_QD if keys == tile.keys[0] else dq[tile.start] + dq_QD
    if keys == tile.keys[-1]:
      own_TD = _own_lanes(dq[tile.start] * spec.head_dim**-0.5, spec.head_dim)
      dq_ref[0, _queries(tile)] = own_TD.astype(dq_ref.dtype)

  _one_ahead([(tile, keys) for tile in tiles for keys in tile.keys], scores, weigh)


def finish(spec: Spec, dk_ref, dv_ref, dk_SD, dv_SD) -> None:
  """dk and dv of all slots of these references, from their sums."""
  scale = spec.head_dim**-0.5 / _exact_scale(spec.head_dim)
  for start in range(0, dk_SD.shape[0], TILE):
    slots = slice(start, start + TILE)
    dk_ref[0, slots] = (dk_SD[slots] * scale).astype(dk_ref.dtype)
    dv_ref[0, slots] = dv_SD[slots].astype(dv_ref.dtype)


def _one_ahead(items: Iterable[Any], begin: Callable, end: Callable) -> None:
  """begin(item), then end(item, what it gave), with the next item begun before: the matrix unit has work meanwhile."""
  waiting = None
  for item in items:
    begun = begin(item)
    if waiting is not None:
      end(*waiting)
    waiting = (item, begun)
  end(*waiting)


def _queries(tile: Tile) -> slice:
  return slice(tile.start, tile.start + TILE)


def _exact_scale(head_dim: int) -> float:
  """The power of 2 below 1/sqrt(head_dim), or it itself: queries lose nothing when they are multiplied by it."""
  return 2.0 ** math.floor(math.log2(head_dim**-0.5))


def _to_exponent(head_dim: int) -> float:
  """What makes scores of scaled queries exponents of 2."""
  return head_dim**-0.5 / _exact_scale(head_dim) * LOG2_E


def _scaled(q_ref, tile: Tile, head_dim: int) -> Array:
  """A tile's stacked queries, scaled as far as that is exact."""
  return _stacked(q_ref[0, _queries(tile)] * jnp.asarray(_exact_scale(head_dim), q_ref.dtype), head_dim)


def _scores(q_QD: Array, keys: Keys, k_ref, mask_ref, absent_ref) -> Array:
  s_QC = _dot(q_QD, k_ref[0, keys.start : keys.stop], (1, 1))
  if keys.bias is not None:
    bias_TC = mask_ref[:, keys.bias : keys.bias + keys.stop - keys.start]
    s_QC += jnp.concatenate([bias_TC] * (s_QC.shape[0] // TILE), axis=0)
  if absent_ref is not None and keys.stop <= absent_ref.shape[-1]:
    s_QC += absent_ref[0, :, keys.start : keys.stop]
  return s_QC


def _stacked(x_TD: Array, head_dim: int) -> Array:
  """The tile once for each head of the group, the other heads' lanes zeroed."""
  if head_dim == LANES:
    return x_TD
  return jnp.concatenate([jnp.where(_of_head(h, head_dim), x_TD, 0) for h in range(LANES // head_dim)], axis=0)


def _of_head(h: int, head_dim: int) -> Array:
  """bool [1, D]: the lanes of one head of the group."""
  lane_1D = lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
  return (lane_1D >= h * head_dim) & (lane_1D < (h + 1) * head_dim)


def _own_lanes(x_QD: Array, head_dim: int) -> Array:
  """Of each head's rows its own lanes, side by side again."""
  if head_dim == LANES:
    return x_QD
  parts = [x_QD[h * TILE : (h + 1) * TILE] for h in range(LANES // head_dim)]
  own_TD = parts[-1]
  for h, part_TD in enumerate(parts[:-1]):
    own_TD = jnp.where(_of_head(h, head_dim), part_TD, own_TD)
  return own_TD


def _as_rows(x_Q1: Array) -> Array:
  """Columns of each head's queries as rows [R, TILE]; rows without a head are zeros."""
  lane_1D = lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
  x_TD = jnp.zeros((TILE, LANES), jnp.float32)
  for h in range(x_Q1.shape[0] // TILE):
    x_TD = jnp.where(lane_1D == h, x_Q1[h * TILE : (h + 1) * TILE], x_TD)
  return x_TD.T[:8]


def _as_columns(x_RT: Array, head_dim: int) -> Array:
  x_TR = x_RT.T
  return jnp.concatenate([x_TR[:, h : h + 1] for h in range(LANES // head_dim)], axis=0)


def _add(sum_SD, keys: Keys, x_CD: Array, begun: set[int]) -> None:
  """Adds x to the keys' slots, or sets those that nothing was added to yet."""
  for start in range(keys.start, keys.stop, TILE):
    part_TD = x_CD[start - keys.start : start - keys.start + TILE]
    slots = slice(start, start + TILE)
    sum_SD[slots] = sum_SD[slots] + part_TD if start in begun else part_TD


def _lanes(parts: list[Array]) -> list[Array]:
  """The parts in registers' width: reduced elementwise first, so that lanes are reduced once."""
  return [x[:, i : i + LANES] for x in parts for i in range(0, x.shape[1], LANES)]


def _dot(a: Array, b: Array, contract: tuple[int, int]) -> Array:
  """The product over one axis of each in float32, of operands in the dtype of b."""
  precision = lax.Precision.HIGHEST if b.dtype == jnp.float32 else None
  dimensions = (((contract[0],), (contract[1],)), ((), ()))
  return lax.dot_general(a.astype(b.dtype), b, dimensions, precision=precision, preferred_element_type=jnp.float32)
