"""JAX's own block-sparse kernel for TPU under the pattern's mask: for comparison, and for what ours does not serve.

B batch, L stream, H heads, K head dim.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention.kept import ATTENTION
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.platforms import only_on
from dalle_jax.ops.sparse_attention.shards import by_heads

LANES = 128
LARGEST_BLOCK = 640  # the best of nine shapes at 1280 positions on v5e and v5p


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
  *,
  interpret: bool = False,
  blocks: splash.BlockSizes | None = None,
) -> Float[Array, "B L H K"]:
  """What each position takes from those it sees, in the dtype of v.

  blocks: its block sizes, the largest that divide the stream if None; the stream is filled up to whole blocks. Raises
  UserError for text lengths and separate softmaxes.
  """
  if text_lengths_B is not None or pattern.softmax != "joint":
    raise UserError("splash serves softmax='joint' without text lengths: choose reference or xla")
  if not interpret:
    q_BLHK = only_on(q_BLHK, "tpu", "splash runs on TPU: choose xla here, or interpret=True to see its numbers")
  blocks = largest(pattern.length) if blocks is None else blocks
  length = filled(pattern.length, blocks)
  run = functools.partial(_on_one_device, pattern, length, blocks, interpret)
  return by_heads(run)(q_BLHK, k_BLHK, v_BLHK)


def _on_one_device(pattern: Pattern, length: int, blocks, interpret: bool, q: Array, k: Array, v: Array) -> Array:
  masks = splash.MultiHeadMask([splash.NumpyMask(mask(pattern, length))] * q.shape[2])
  kernel = splash.make_splash_mha_single_device(
    masks, block_sizes=blocks, interpret=interpret, residual_checkpoint_name=ATTENTION
  )
  fill = ((0, 0), (0, 0), (0, length - pattern.length), (0, 0))
  q_BHLK, k_BHLK, v_BHLK = (jnp.pad(x.swapaxes(1, 2), fill) for x in (q * q.shape[-1] ** -0.5, k, v))
  o_BHLK = jax.vmap(kernel)(q_BHLK, k_BHLK, v_BHLK)
  return o_BHLK[:, :, : pattern.length].swapaxes(1, 2).astype(v.dtype)


def filled(length: int, blocks: splash.BlockSizes) -> int:
  """Positions, up to whole blocks of queries and of keys."""
  unit = math.lcm(blocks.block_q, blocks.block_kv)
  return math.ceil(length / unit) * unit


def mask(pattern: Pattern, length: int) -> Bool[np.ndarray, "L L"]:
  """The pattern's mask, in which each position that fills the stream up sees itself."""
  mask_LL = np.eye(length, dtype=bool)
  mask_LL[: pattern.length, : pattern.length] = pattern.mask()
  return mask_LL


def block_sizes(queries: int, keys: int) -> splash.BlockSizes:
  """Blocks of so many queries and keys in both passes, the backward pass in one kernel."""
  return splash.BlockSizes(
    block_q=queries,
    block_kv=keys,
    block_kv_compute=keys,
    block_q_dkv=queries,
    block_kv_dkv=keys,
    block_kv_dkv_compute=keys,
    use_fused_bwd_kernel=True,
  )


def largest(length: int) -> splash.BlockSizes:
  """The largest square blocks of whole lanes that divide the length, filled up to whole lanes."""
  length = math.ceil(length / LANES) * LANES
  size = max(size for size in range(LANES, LARGEST_BLOCK + 1, LANES) if length % size == 0)
  return block_sizes(size, size)
