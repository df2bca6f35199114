"""The static schedule of the kernels: how the stream is laid out in tiles, and which keys each tile of queries reads.

A kernel's stream has the text first, padded to whole tiles, then the rows of the grid, each padded so that whole rows
fill a tile. The rules of the patterns that look at few rows depend on the distance of the rows alone, so that one
additive mask over [tile, window of whole tiles] serves every tile of queries. Columns are rows of the transposed grid.
Where all of the image is seen the order is the raster's and only a tile's own keys need a mask.

Q slots of a tile of queries, S slots of keys, L slots of the stream.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np
from jaxtyping import Float, Int

from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.reference import MASKED

TILE = 128  # queries of a tile, and the unit of its keys


@dataclasses.dataclass(frozen=True)
class Keys:
  """Slots [start, stop) of keys; bias: the column of the mask that belongs to the first, None where all are seen."""

  start: int
  stop: int
  bias: int | None = None


@dataclasses.dataclass(frozen=True)
class Tile:
  """The queries of slots [start, start + TILE), and the keys they read, in the order of the stream."""

  start: int
  keys: tuple[Keys, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """Slots of text, of a row and of all rows. before: tiles of keys that a tile of image queries reads before itself."""

  pattern: Pattern
  text: int
  row: int
  image: int
  before: int

  @property
  def length(self) -> int:
    """All slots."""
    return self.text + self.image

  @property
  def in_place(self) -> bool:
    """Whether every position is its own slot."""
    square = self.pattern.kind == "full" or self.row == self.pattern.grid
    return self.pattern.kind != "column" and square and self.length == self.pattern.length

  @property
  def ragged(self) -> bool:
    """Whether some slots of text hold no text."""
    return self.text != self.pattern.text


@functools.lru_cache(maxsize=64)
def layout(pattern: Pattern) -> Layout:
  """How the stream of a pattern with the text first lies in slots. Raises ValueError for rows longer than a tile."""
  text = _whole(pattern.text, TILE)
  if pattern.kind == "full":
    image = _whole(pattern.image, TILE)
    return Layout(pattern, text, row=1, image=image, before=image // TILE - 1)
  if pattern.grid > TILE:
    raise ValueError(f"a row of {pattern.grid} tokens does not fit a tile of {TILE}")
  row = 2 ** math.ceil(math.log2(pattern.grid))
  image = _whole(pattern.grid * row, TILE)
  rows_before = 0 if pattern.kind == "column" else pattern.reach - 1
  return Layout(pattern, text, row, image, before=min(math.ceil(rows_before * row / TILE), image // TILE - 1))


def tiles(plan: Layout, block_k: int) -> tuple[Tile, ...]:
  """Every tile of queries with its keys, in parts of at most `block_k` slots that are all masked or all not."""
  done = []
  for start in range(0, plan.text, TILE):
    done.append(Tile(start, (*_parts(0, start, None, block_k), Keys(start, start + TILE, 0))))
  for start in range(plan.text, plan.length, TILE):
    first = max(plan.text, start - plan.before * TILE)
    keys = _parts(0, plan.text, None, block_k)
    if plan.pattern.kind == "full":
      keys += (*_parts(first, start, None, block_k), Keys(start, start + TILE, 0))
    else:
      # Masks of text, then of the image: the last columns are the tile itself.
      own = TILE * (1 + plan.before)
      keys += _parts(first, start + TILE, own - (start - first), block_k)
    done.append(Tile(start, keys))
  return tuple(done)


@functools.lru_cache(maxsize=64)
def mask(plan: Layout) -> Float[np.ndarray, "Q S"]:
  """0 where a query of a tile sees a key, MASKED elsewhere: TILE columns of causal text, then the image's window.

  Of the text every tile reads its own slots under the first columns. `tiles` says which columns belong to which keys.
  """
  i = np.arange(TILE)
  causal = i[:, None] >= i[None, :]
  if plan.pattern.kind == "full":
    return _additive(causal)
  # The last tile has the whole window before it, as has any that comes later.
  own = plan.before * TILE
  query, key = own + i[:, None], np.arange(own + TILE)[None, :]
  return _additive(np.concatenate([causal, seen(plan, query, key)], axis=1))


def seen(plan: Layout, query, key):
  """Whether image slot `query` sees image slot `key`; what slots past a row's or the grid's end see means nothing."""
  pattern, w = plan.pattern, plan.pattern.grid
  outer_q, inner_q, outer_k, inner_k = query // plan.row, query % plan.row, key // plan.row, key % plan.row
  inner_q = np.minimum(inner_q, w - 1)
  if pattern.kind == "column":
    return (outer_q == outer_k) & (inner_k <= inner_q)
  return (inner_k < w) & pattern.image_allowed(outer_q * w + inner_q, outer_k * w + inner_k)


def absent(plan: Layout) -> Float[np.ndarray, " T"]:
  """What is added to the scores of the slots of text: MASKED for those that hold none."""
  return _additive(np.arange(plan.text) < plan.pattern.text)


def slots(plan: Layout) -> Int[np.ndarray, " L"]:
  """For each position of the stream in raster order, its slot."""
  pattern = plan.pattern
  text, i = np.arange(pattern.text), np.arange(pattern.image)
  if pattern.kind == "full":
    return np.concatenate([text, plan.text + i])
  outer, inner = i // pattern.grid, i % pattern.grid
  if pattern.kind == "column":
    outer, inner = inner, outer
  return np.concatenate([text, plan.text + outer * plan.row + inner])


def _parts(start: int, stop: int, bias: int | None, block_k: int) -> tuple[Keys, ...]:
  """Slots [start, stop) in parts; the first may be the narrower one."""
  edges = [*range(stop, start, -block_k), start][::-1]
  at = lambda edge: None if bias is None else bias + edge - start  # noqa: E731
  return tuple(Keys(a, b, at(a)) for a, b in itertools.pairwise(edges))


def _additive(allowed: np.ndarray) -> np.ndarray:
  return np.where(allowed, 0, MASKED).astype(np.float32)


def _whole(size: int, unit: int) -> int:
  return math.ceil(size / unit) * unit
