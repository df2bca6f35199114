"""Of many vectors those that lie nearest to some, by their cosine: exact, and the many are never held together.

A part of the many at a time is multiplied with the few, and of each of these the best so far are kept.

B vectors that are asked for, N of a part of those that are looked among, E their length, K neighbours.
"""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

ROWS = 1024  # of those asked for, multiplied at a time


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
  """Of each vector asked for the nearest ones, the nearest first: their cosines, and which of the many they are."""

  cosine_BK: Float[np.ndarray, "B K"]
  row_BK: Int[np.ndarray, "B K"]


def nearest(asked_BE: Float[np.ndarray, "B E"], parts: Iterable[Float[np.ndarray, "N E"]], count: int) -> Neighbours:
  """The `count` nearest (all, where there are fewer) among the vectors of all parts, numbered in their order.

  Of equal cosines the earlier vector comes first. A vector of zeros has cosine 0 with everything. Memory holds the
  vectors asked for and one part. Raises ValueError where there is no vector on either side, or one is not finite.
  """
  asked_BE = _unit(asked_BE)
  blocks = [jnp.asarray(asked_BE[i : i + ROWS]) for i in range(0, len(asked_BE), ROWS)]
  best = [(jnp.full((len(block), count), -jnp.inf), jnp.zeros((len(block), count), jnp.int32)) for block in blocks]
  first, width = 0, 0
  for part_NE in parts:
    width = max(width, len(part_NE))  # a last, smaller part is filled up: it would be compiled anew
    filled_NE = np.zeros((width, asked_BE.shape[1]), np.float32)
    filled_NE[: len(part_NE)] = _unit(part_NE)
    among_NE, where = jnp.asarray(filled_NE), (jnp.int32(first), jnp.int32(len(part_NE)))
    best = [_better(*kept, block, among_NE, *where) for kept, block in zip(best, blocks)]
    first += len(part_NE)
  if not first or not blocks:
    raise ValueError("there is no vector to look among" if not first else "there is no vector to look for")
  kept = min(count, first)
  cosine_BK, row_BK = (np.concatenate([np.asarray(each[i]) for each in best])[:, :kept] for i in (0, 1))
  return Neighbours(cosine_BK=cosine_BK, row_BK=row_BK)


@functools.partial(jax.jit)
def _better(
  cosine_BK: Float[Array, "B K"],
  row_BK: Int[Array, "B K"],
  asked_BE: Float[Array, "B E"],
  among_NE: Float[Array, "N E"],
  first: Int[Array, ""],
  fresh: Int[Array, ""],
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
  """The best of those kept and of a part, of which the `fresh` first count; `lax.top_k` keeps the order of equals."""
  number_N = jnp.arange(among_NE.shape[0], dtype=jnp.int32)
  new_BN = jnp.einsum("BE,NE->BN", asked_BE, among_NE, precision=jax.lax.Precision.HIGHEST)
  new_BN = jnp.where(number_N[None] < fresh, new_BN, -jnp.inf)
  rows_BN = jnp.broadcast_to(first + number_N[None], new_BN.shape)
  all_BM, rows_BM = jnp.concatenate([cosine_BK, new_BN], axis=1), jnp.concatenate([row_BK, rows_BN], axis=1)
  best_BK, place_BK = jax.lax.top_k(all_BM, cosine_BK.shape[1])
  return best_BK, jnp.take_along_axis(rows_BM, place_BK, axis=1)


def _unit(vectors_NE: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "N E"]:
  """The same vectors of length 1, those of zeros as they are."""
  if not np.isfinite(vectors_NE).all():
    raise ValueError("a picture's vector is not finite: are its network's weights damaged?")
  length_N1 = np.linalg.norm(vectors_NE.astype(np.float64), axis=1, keepdims=True)
  return (vectors_NE / np.where(length_N1 == 0, 1, length_N1)).astype(np.float32)
