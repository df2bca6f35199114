"""What a kernel's program depends on beside the shapes of its arrays, and the pieces that all three are built of."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Float

from dalle_jax.ops.sparse_attention import tiles
from dalle_jax.ops.sparse_attention.reference import MASKED

BLOCK = 64  # queries of a warpgroup, and keys of one product: the height of Hopper's wgmma
STAGES = 4  # blocks that are on their way or in use, at most
RESERVED = 6 * 1024  # bytes for barriers and what the compiler takes for itself
SHARED_MEMORY = 227 * 1024  # bytes of a multiprocessor of compute capability 9.0 that one program may take


class Workers(NamedTuple):
  """Warpgroups of a program that compute, each its own block, in the two passes; one more copies."""

  forward: int
  backward: int


class Spec(NamedTuple):
  """Hashable, so that it can be a static argument.

  text, image: blocks of the stream. back: blocks of the image that a block reads before itself. Where all of the stream
  is seen causally, all of it is text.
  """

  plan: tiles.Layout
  head_dim: int
  text: int
  image: int
  back: int
  workers: Workers
  interpret: bool

  @property
  def blocks(self) -> int:
    """Of the whole stream."""
    return self.text + self.image

  @property
  def tokens(self) -> int:
    """Slots of text that hold some, where an example has no length of its own."""
    return self.plan.pattern.length if self.plan.pattern.kind == "full" else self.plan.pattern.text

  @property
  def in_place(self) -> bool:
    """Whether the kernels read columns where they are: the stream is whole blocks and, in rows, whole groups of 8."""
    plan, pattern = self.plan, self.plan.pattern
    whole = plan.length == pattern.length and plan.row == pattern.grid
    return pattern.kind == "column" and whole and plan.row % 8 == 0 and plan.length // plan.row % 8 == 0

  @property
  def scale(self) -> float:
    """From a product of q and k to the exponent of 2."""
    return math.log2(math.e) * self.head_dim**-0.5

  def shared(self, count: int, like: Any) -> Any:
    """Shared memory for `count` blocks of an array of tokens, as wgmma reads them, or of numbers."""
    if len(like.shape) == 3:
      return plgpu.SMEM((count, BLOCK), like.dtype)
    swizzle = min(128, self.head_dim * like.dtype.itemsize)
    tiling = plgpu.TilingTransform((8, swizzle // like.dtype.itemsize))
    return plgpu.SMEM((count, BLOCK, self.head_dim), like.dtype, transforms=(tiling, plgpu.SwizzleTransform(swizzle)))


def stages(spec: Spec, workers: int, own: Sequence[Any], streamed: Sequence[Any]) -> int:
  """How many blocks may be on their way or in use; fewer than 2 are too few to run.

  own: what each worker keeps a block of, and what it stores elsewhere than in those.
  """
  size = lambda x: BLOCK * (spec.head_dim if len(x.shape) > 3 else 1) * x.dtype.itemsize  # noqa: E731
  left = SHARED_MEMORY - RESERVED - workers * sum(map(size, own)) - 2 * masks(spec).size
  return min(STAGES, left // sum(map(size, streamed)))


def enough_memory(spec: Spec) -> bool:
  """Whether all three kernels run with gradients."""
  tokens = [jax.ShapeDtypeStruct((1, BLOCK, 1, spec.head_dim), jnp.bfloat16)] * 2
  numbers = [jax.ShapeDtypeStruct((1, 1, BLOCK), jnp.float32)] * 2
  kernels = [(spec.workers.forward, [*tokens, numbers[0]], tokens)]
  kernels += [(spec.workers.backward, tokens + numbers, tokens), (spec.workers.backward, tokens, tokens + numbers)]
  return min(stages(spec, *kernel) for kernel in kernels) >= 2


@functools.lru_cache(maxsize=64)
def masks(spec: Spec) -> Float[np.ndarray, "N Q S"]:
  """What is added to scores: of a block of text with itself; of one of the image with itself, the one before and so on.

  N masks, Q S queries and keys of a block.
  """
  i = np.arange(BLOCK)
  causal = i[:, None] >= i[None, :]
  if not spec.image:
    return _added(causal[None])
  query, key = spec.back * BLOCK + i[:, None], np.arange((spec.back + 1) * BLOCK)[None]
  seen = tiles.seen(spec.plan, query, key).reshape(BLOCK, -1, BLOCK).swapaxes(0, 1)
  return _added(np.concatenate([causal[None], seen[::-1]]))


def _added(seen: np.ndarray) -> np.ndarray:
  return np.where(seen, 0, MASKED).astype(np.float32)
