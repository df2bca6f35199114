"""Columns as rows inside the TPU kernel: a reference whose slots follow the grid's columns, so that nothing is copied.

Rows of 128 lanes are read and written with a stride. Two rows of bfloat16 share a 32-bit word, two neighbours of the
grid's row: two columns are read from the same words, put together anew as words of neighbours of a column.

S slots of the stream, D lanes.
"""

import dataclasses

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from dalle_jax.ops.sparse_attention.tiles import Layout

SUBLANES = 8  # of a register of 32-bit words


def in_kernel(plan: Layout, dtype: str) -> bool:
  """Whether the grid lies in its slots so that the kernel can read its columns itself."""
  words = SUBLANES * (4 // jnp.dtype(dtype).itemsize)
  pattern = plan.pattern
  return plan.row == pattern.grid and plan.length == pattern.length and pattern.grid % words == 0


def exchange(even: Array, odd: Array) -> tuple[Array, Array]:
  """Words of the first halves of both, and of their second halves: done twice it changes nothing."""
  low, high = jnp.uint32(0xFFFF), jnp.uint32(0xFFFF0000)
  return (even & low) | (odd << 16), (even >> 16) | (odd & high)


@dataclasses.dataclass(frozen=True)
class Columns:
  """A reference [1, S, D] in raster order, indexed by [0, slots]: of text, or whole columns (of bfloat16 in pairs)."""

  ref: object
  plan: Layout
  interpret: bool  # the interpreter writes no words: there rows of bfloat16 are written as they are

  @property
  def dtype(self):
    """Of the reference."""
    return self.ref.dtype

  def __getitem__(self, index: tuple[int, slice]) -> Array:
    columns = self._columns(index[1])
    if columns is None:
      return self.ref[index]
    grid, text = self.plan.pattern.grid, self.plan.text
    if self.dtype.itemsize == 4:
      return jnp.concatenate([self._every(self.ref, text + column, grid) for column in columns], axis=0)
    words, half = self._words()
    done = []
    for pair in range(columns.start // 2, columns.stop // 2):
      even = self._every(words, text // 2 + pair, half)  # of rows 0, 2, ...: columns 2 pair and 2 pair + 1
      odd = self._every(words, text // 2 + half + pair, half)
      done += exchange(even, odd)
    return pltpu.bitcast(jnp.concatenate(done, axis=0), self.dtype)

  def __setitem__(self, index: tuple[int, slice], value: Array) -> None:
    columns = self._columns(index[1])
    if columns is None:
      self.ref[index] = value
      return
    grid, text = self.plan.pattern.grid, self.plan.text
    if self.dtype.itemsize == 4 or self.interpret:
      for i, column in enumerate(columns):
        self._set(self.ref, text + column, grid, value[i * grid : (i + 1) * grid])
      return
    words, half = self._words()
    given = pltpu.bitcast(value, jnp.uint32)
    for i, pair in enumerate(range(columns.start // 2, columns.stop // 2)):
      even, odd = exchange(*(given[j * half : (j + 1) * half] for j in (2 * i, 2 * i + 1)))
      self._set(words, text // 2 + pair, half, even)
      self._set(words, text // 2 + half + pair, half, odd)

  def _columns(self, slots: slice) -> range | None:
    """The columns of these slots; None for text."""
    if slots.start < self.plan.text:
      return None
    grid = self.plan.pattern.grid
    return range((slots.start - self.plan.text) // grid, (slots.stop - self.plan.text) // grid)

  def _words(self):
    return self.ref.bitcast(jnp.uint32), self.plan.pattern.grid // 2

  def _every(self, ref, start: int, count: int) -> Array:
    """So many rows, a row of the grid (of words: two of them) apart."""
    return ref[pl.ds(0, 1), pl.ds(start, count, stride=self.plan.pattern.grid)][0]

  def _set(self, ref, start: int, count: int, value: Array) -> None:
    ref[pl.ds(0, 1), pl.ds(start, count, stride=self.plan.pattern.grid)] = value[None]
