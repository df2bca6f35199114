"""The forward pass: each worker has a block of queries, the keys come by, and a running maximum keeps the softmax.

B batch, *S slots (or rows and positions of a row, see `copies`), H heads, K head dim, Q T queries and keys of a block.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.ops.sparse_attention.pallas_gpu import program, stream
from dalle_jax.ops.sparse_attention.pallas_gpu.registers import across, product, rows, tile
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK, Spec, masks
from dalle_jax.ops.sparse_attention.pallas_gpu.walk import over_keys

LOG2_E = math.log2(math.e)
FLOOR = -1e20  # the first maximum: below every score, above MASKED, so that a block all masked adds nothing
EMPTY = 1e30  # log2 of the sum of a query that sees nothing: 2^(score - EMPTY) is 0


@functools.partial(jax.jit, static_argnames=("spec", "statistics"))  # lowered once for all layers alike
def forward(
  spec: Spec,
  q_BSHK: Float[Array, "B *S H K"],
  k_BSHK: Float[Array, "B *S H K"],
  v_BSHK: Float[Array, "B *S H K"],
  tokens_B: Int[Array, " B"],
  *,
  statistics: bool,
) -> list[Array]:
  """o; with statistics what the backward pass needs: log2 of each query's sum of exponents, and o's rounding error."""
  batch, heads = q_BSHK.shape[0], q_BSHK.shape[-2]

  def work(w: program.Work) -> list[Array]:
    (q,), (k, v) = w.own, w.streamed

    def step(slot, mask, carry):
      o_QK, most_Q, sum_Q = carry
      s_QT = mask(product(spec.interpret, q, k.at[slot], transposed=True))
      now_Q = jnp.maximum(most_Q, s_QT.max(axis=1))
      less_Q = jnp.exp2((most_Q - now_Q) * spec.scale)
      p_QT = jnp.exp2(s_QT * spec.scale - across(now_Q * spec.scale, BLOCK))
      o_QK = product(spec.interpret, p_QT.astype(v.dtype), v.at[slot], onto=o_QK * across(less_Q, spec.head_dim))
      return o_QK, now_Q, sum_Q * less_Q + p_QT.sum(axis=1)

    nothing = (
      tile(spec.interpret, jnp.zeros((BLOCK, spec.head_dim), jnp.float32)),
      rows(spec.interpret, jnp.full((BLOCK,), FLOOR, jnp.float32)),
      rows(spec.interpret, jnp.zeros((BLOCK,), jnp.float32)),
    )
    o_QK, most_Q, sum_Q = over_keys(spec, w, nothing, step)
    some_Q = jnp.maximum(sum_Q, 1e-30)
    lse_Q = jnp.where(sum_Q > 0, most_Q * spec.scale + jnp.log(some_Q) * LOG2_E, EMPTY)
    o_QK = o_QK * across(1 / some_Q, spec.head_dim)
    rest_QK = o_QK - o_QK.astype(v.dtype).astype(jnp.float32)
    return [o_QK, lse_Q, rest_QK][: len(stored)]

  o = jax.ShapeDtypeStruct(q_BSHK.shape, v_BSHK.dtype)
  lse = jax.ShapeDtypeStruct((batch, heads, spec.blocks * BLOCK), jnp.float32)
  stored = [o, lse, o] if statistics else [o]
  return program.run(
    spec,
    "forward",
    work,
    workers=spec.workers.forward,
    comes_by=stream.keys_of_all,
    own=[q_BSHK],
    streamed=[k_BSHK, v_BSHK],
    stored=stored,
    tokens_B=tokens_B,
    added_NQS=masks(spec),
  )
