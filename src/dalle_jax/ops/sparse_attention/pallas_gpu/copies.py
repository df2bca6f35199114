"""Blocks between global and shared memory, one head's at a time.

Under the column pattern a block holds columns of the grid, and where the grid allows it they are read and written where
they are: the stream lies as rows of the grid, text first, and a column is a copy of its own whose rows lie far apart.

B batch, S slots, R rows of the grid and of text as long, W positions of a row, H heads, K head dim.
"""

from typing import Any

from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK, Spec


def count(spec: Spec, like: Any) -> int:
  """Copies that a block takes of an array like this one: [B, S, H, K], [B, R, W, H, K] or numbers [B, H, S]."""
  return BLOCK // spec.plan.row if len(like.shape) == 5 else 1


def copy_in(spec: Spec, source: Any, target: Any, place: tuple[Any, Any, Any], barrier: Any) -> None:
  """A block of an array into shared memory; every copy arrives at the barrier. place: example, head and block."""
  _copy(spec, source, target, place, lambda outer, inner: plgpu.copy_gmem_to_smem(outer, inner, barrier))


def copy_out(spec: Spec, source: Any, target: Any, place: tuple[Any, Any, Any]) -> None:
  """A block in shared memory into an array."""
  _copy(spec, target, source, place, lambda outer, inner: plgpu.copy_smem_to_gmem(inner, outer))


def _copy(spec: Spec, outer: Any, inner: Any, place: tuple[Any, Any, Any], copy: Any) -> None:
  b, h, block = place
  at = pl.ds(block * BLOCK, BLOCK)
  if len(outer.shape) == 3:
    copy(outer.at[b, h, at], inner)
  elif len(outer.shape) == 4:
    copy(outer.at[b, at, h], inner)
  else:
    width, lines = spec.plan.row, BLOCK // spec.plan.row
    parts = [inner.at[pl.ds(i * width, width)] for i in range(lines)]

    @pl.when(block < spec.text)
    def _text():
      for i, part in enumerate(parts):
        copy(outer.at[b, block * lines + i, pl.ds(0, width), h], part)

    @pl.when(block >= spec.text)
    def _columns():
      for i, part in enumerate(parts):
        rows = pl.ds(spec.plan.text // width, width)
        copy(outer.at[b, rows, (block - spec.text) * lines + i, h], part)
