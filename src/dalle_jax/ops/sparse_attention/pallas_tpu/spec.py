"""What a kernel's program depends on beside the shapes of its arrays, and the constants that every one reads.

B batch, T slots of text.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from dalle_jax.ops.sparse_attention import tiles

LANES = 128
FAST_MEMORY = 12 * 2**20  # bytes, of the 16 MiB that the smallest chip (v4) has


class Spec(NamedTuple):
  """Hashable, so that it can be a static argument."""

  plan: tiles.Layout
  head_dim: int
  block_k: int  # keys of one product, at most
  whole: bool  # whether a group's stream lies in fast memory whole
  transposes: bool  # whether the kernel exchanges the grid's rows and columns itself
  padded: bool  # whether a mask of the text's slots is given
  interpret: bool

  def constants(self, absent_B1T: Float[Array, "B 1 T"] | None) -> list[Array]:
    """The mask of a tile's keys and, where slots of text may be empty, what is added to their scores."""
    return [jnp.asarray(tiles.mask(self.plan)), *([absent_B1T] if self.padded else [])]

  def constant_specs(self) -> list[pl.BlockSpec]:
    """Their blocks, whatever follows the example in the grid."""
    specs = [pl.BlockSpec(tiles.mask(self.plan).shape, lambda b, *_: (0, 0))]
    if self.padded:
      specs.append(pl.BlockSpec((1, 1, self.plan.text), lambda b, *_: (b, 0, 0)))
    return specs


def whole_bytes(plan: tiles.Layout, head_dim: int, itemsize: int) -> int:
  """Fast memory that both passes fit when a group's stream lies there whole.

  Eight streams, each twice while the next comes, two of float32 sums, and three arrays of a tile's scores.
  """
  stream = plan.length * LANES
  longest = max(sum(keys.stop - keys.start for keys in tile.keys) for tile in tiles.tiles(plan, plan.length))
  scores = LANES // head_dim * tiles.TILE * longest
  return stream * (itemsize * 16 + 2 * 4) + 3 * 4 * scores
