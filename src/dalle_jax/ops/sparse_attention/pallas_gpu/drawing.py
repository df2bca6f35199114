"""One image position of many samples, as drawing needs it: a program for each head and 64 samples of one caption.

Their queries are the rows of a tile. The caption's keys come by in blocks of 64, which all rows see, and are multiplied
as in the forward pass; then of each sample its own keys, one position after the other: row i of such a block is sample
i's key, so scores are sums along the rows and no matrix product. One softmax keeps a running maximum over all of them.

C captions, B rows (samples, caption by caption), T text, H heads, K head dim, S slots, N of them that are seen, Q X
rows and columns of a tile.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float, Int

from dalle_jax import sharding
from dalle_jax.ops.sparse_attention.pallas_gpu import stream
from dalle_jax.ops.sparse_attention.pallas_gpu.program import hopper, interpreter
from dalle_jax.ops.sparse_attention.pallas_gpu.registers import across, product, rows, tile
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK
from dalle_jax.ops.sparse_attention.patterns import Pattern

KINDS = ("full", "row", "column", "conv")  # what they see depends on the distance alone
Carry = tuple[Array, Array, Array]  # the sum of values, the greatest score and the sum of weights of each row
STAGES = 5  # blocks of keys and values that are on their way or in use: two programs then fit a multiprocessor


def serves(pattern: Pattern, captions: int, batch: int, head_dim: int, *dtypes: str) -> bool:
  """Whether the kernel runs here: on one GPU of compute capability 9.0, for whole blocks of a caption's samples."""
  whole = batch % (captions * BLOCK) == 0 and pattern.text % BLOCK == 0
  fits = pattern.kind in KINDS and head_dim == 64 and len(set(dtypes)) == 1 and dtypes[0] in ("bfloat16", "float16")
  split = any(sharding.is_split(axis) for axis in ("batch", "rows", "heads"))
  return whole and fits and hopper() and not split


def distances(pattern: Pattern) -> np.ndarray:
  """How far before a position those lie that it sees, itself left out; int32, from near to far."""
  last, before = pattern.image - 1, np.arange(1, pattern.image)
  return before[pattern.image_allowed(last, last - before)].astype(np.int32)


@functools.partial(jax.jit, static_argnames="interpret")  # lowered once for all layers alike
def attend_one(
  q_BHK: Float[Array, "B H K"],
  k_BHK: Float[Array, "B H K"],
  v_BHK: Float[Array, "B H K"],
  text_k_CHTK: Float[Array, "C H T K"],
  text_v_CHTK: Float[Array, "C H T K"],
  image_k_BHSK: Float[Array, "B H S K"],
  image_v_BHSK: Float[Array, "B H S K"],
  slot_N: Int[Array, " N"],
  count: Int[Array, ""],
  *,
  interpret: bool = False,
) -> Float[Array, "B H K"]:
  """Attention of one position to itself, all text of its caption, and the first `count` of the slots named.

  T and B / C are multiples of 64. All arrays are of one 16-bit dtype.
  """
  batch, heads, head_dim = q_BHK.shape
  samples, blocks = batch // text_k_CHTK.shape[0], text_k_CHTK.shape[2] // BLOCK

  def kernel(q_in, k_in, v_in, text_k, text_v, image_k, image_v, slots, counts, out, *here):
    q, k, v, keys, values, own_ready, *barriers = here
    ring = stream.Ring(*barriers)
    h, first = lax.axis_index("heads"), lax.axis_index("tile") * BLOCK
    at, steps = pl.ds(first, BLOCK), blocks + counts[0]

    @pl.when(lax.axis_index("worker") == 1)
    def _copies():
      def copy(step, slot, barrier):
        @pl.when(step < blocks)
        def _text():
          for source, target in ((text_k, keys), (text_v, values)):
            part = source.at[lax.div(first, samples), h, pl.ds(step * BLOCK, BLOCK)]
            plgpu.copy_gmem_to_smem(part, target.at[slot], barrier)

        @pl.when(step >= blocks)
        def _own():
          for source, target in ((image_k, keys), (image_v, values)):
            plgpu.copy_gmem_to_smem(source.at[at, h, slots[step - blocks]], target.at[slot], barrier)

      stream.fill(ring, steps, copy)

    @pl.when(lax.axis_index("worker") == 0)
    def _works():
      for source, target in ((q_in, q), (k_in, k), (v_in, v)):
        plgpu.copy_gmem_to_smem(source.at[at, h], target, own_ready)
      plgpu.barrier_wait(own_ready)

      itself_Q = (_wide(interpret, q) * _wide(interpret, k)).sum(axis=1)
      carry = (_wide(interpret, v), itself_Q, rows(interpret, jnp.ones((BLOCK,), jnp.float32)))
      text, own = (
        lambda _, slot, carry, add=add: add(interpret, q, keys.at[slot], values.at[slot], carry) for add in ADD
      )
      carry = stream.take(ring, 0, blocks, carry, text)
      o_QK, _, sum_Q = stream.take(ring, blocks, steps, carry, own)
      q[...] = (o_QK * across(1 / sum_Q, head_dim)).astype(q.dtype)
      plgpu.commit_smem()
      plgpu.copy_smem_to_gmem(q, out.at[at, h])
      plgpu.wait_smem_to_gmem(0)

  shared = lambda *count: _shared(count, head_dim, q_BHK.dtype)  # noqa: E731
  return plgpu.kernel(
    kernel,
    out_type=jax.ShapeDtypeStruct(q_BHK.shape, v_BHK.dtype),
    scratch_types=[
      *(shared() for _ in range(3)),
      *(shared(STAGES) for _ in range(2)),
      plgpu.Barrier(num_arrivals=3),
      *stream.ring(STAGES, 2, 1),
    ],
    grid=(batch // BLOCK, heads),
    grid_names=("tile", "heads"),
    num_threads=2,
    thread_name="worker",
    kernel_name="sparse_attention_drawing",
    compiler_params=plgpu.CompilerParams(approx_math=True),
    interpret=interpreter() if interpret else None,
  )(q_BHK, k_BHK, v_BHK, text_k_CHTK, text_v_CHTK, image_k_BHSK, image_v_BHSK, slot_N, count[None])


def _add_text(interpret: bool, q: Any, k: Any, v: Any, carry: Carry) -> Carry:
  """A block of keys that all rows see."""
  o_QK, most_Q, sum_Q = carry
  head_dim, scale = o_QK.shape[1], _scale(o_QK)
  s_QT = product(interpret, q, k, transposed=True)
  now_Q = jnp.maximum(most_Q, s_QT.max(axis=1))
  less_Q = jnp.exp2((most_Q - now_Q) * scale)
  p_QT = jnp.exp2(s_QT * scale - across(now_Q * scale, BLOCK))
  o_QK = product(interpret, p_QT.astype(v.dtype), v, onto=o_QK * across(less_Q, head_dim))
  return o_QK, now_Q, sum_Q * less_Q + p_QT.sum(axis=1)


def _add_own(interpret: bool, q: Any, k: Any, v: Any, carry: Carry) -> Carry:
  """A key of each row's own."""
  o_QK, most_Q, sum_Q = carry
  head_dim, scale = o_QK.shape[1], _scale(o_QK)
  s_Q = (_wide(interpret, q) * _wide(interpret, k)).sum(axis=1)
  now_Q = jnp.maximum(most_Q, s_Q)
  less_Q, p_Q = jnp.exp2((most_Q - now_Q) * scale), jnp.exp2((s_Q - now_Q) * scale)
  o_QK = o_QK * across(less_Q, head_dim) + _wide(interpret, v) * across(p_Q, head_dim)
  return o_QK, now_Q, sum_Q * less_Q + p_Q


ADD = _add_text, _add_own


def _scale(o_QK: Array) -> float:
  """From a product of q and k to the exponent of 2."""
  return math.log2(math.e) * o_QK.shape[1] ** -0.5


def _wide(interpret: bool, ref: Any) -> Float[Array, "Q X"]:
  """A block of shared memory in registers, as a product has it, in float32."""
  return tile(interpret, ref[...]).astype(jnp.float32)


def _shared(count: tuple[int, ...], head_dim: int, dtype: Any) -> Any:
  """Shared memory for blocks, as wgmma reads them."""
  swizzle = min(128, head_dim * dtype.itemsize)
  tiling = plgpu.TilingTransform((8, swizzle // dtype.itemsize))
  return plgpu.SMEM((*count, BLOCK, head_dim), dtype, transforms=(tiling, plgpu.SwizzleTransform(swizzle)))
