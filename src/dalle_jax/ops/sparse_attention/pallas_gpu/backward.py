"""The backward pass: once with queries staying and keys coming by for dq, once the other way round for dk and dv.

The weights are computed again from the sums that the forward pass kept. A block's gradient is summed in registers and
stored once, so nothing is added in memory and the result does not depend on which program runs first.

B batch, *S slots (or rows and positions of a row, see `copies`), H heads, K head dim, Q T queries and keys of a block.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.ops.sparse_attention import slots
from dalle_jax.ops.sparse_attention.pallas_gpu import program, stream
from dalle_jax.ops.sparse_attention.pallas_gpu.registers import across, columns, down, product, rows, tile
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK, Spec, masks
from dalle_jax.ops.sparse_attention.pallas_gpu.walk import over_keys, over_queries


@functools.partial(jax.jit, static_argnames="spec")  # lowered once for all layers alike
def backward(
  spec: Spec,
  q_BSHK: Float[Array, "B *S H K"],
  k_BSHK: Float[Array, "B *S H K"],
  v_BSHK: Float[Array, "B *S H K"],
  o_BSHK: Float[Array, "B *S H K"],
  lse_BHS: Float[Array, "B H S"],
  rest_BSHK: Float[Array, "B *S H K"],
  do_BSHK: Float[Array, "B *S H K"],
  tokens_B: Int[Array, " B"],
) -> tuple[Float[Array, "B *S H K"], ...]:
  """dq, dk and dv."""
  # Rounded to the dtype of o, do . o alone would be half of the error of dq and dk.
  exact_BSHK = o_BSHK.astype(jnp.float32) + rest_BSHK.astype(jnp.float32)
  delta_BSH = jnp.sum(exact_BSHK * do_BSHK.astype(jnp.float32), axis=-1)
  delta_BSH = delta_BSH.reshape(delta_BSH.shape[0], -1, delta_BSH.shape[-1])
  delta_BHS = (slots.pack(delta_BSH, spec.plan) if spec.in_place else delta_BSH).swapaxes(1, 2)
  of_queries, of_keys = [q_BSHK, do_BSHK, lse_BHS, delta_BHS], [k_BSHK, v_BSHK]
  like = jax.ShapeDtypeStruct(q_BSHK.shape, q_BSHK.dtype)
  (dq_BSHK,) = program.run(
    spec,
    "backward_queries",
    lambda w: _queries(spec, w),
    workers=spec.workers.backward,
    comes_by=stream.keys_of_all,
    own=of_queries,
    streamed=of_keys,
    stored=[like],
    tokens_B=tokens_B,
    added_NQS=masks(spec),
  )
  dk_BSHK, dv_BSHK = program.run(
    spec,
    "backward_keys",
    lambda w: _keys(spec, w),
    workers=spec.workers.backward,
    comes_by=lambda spec, workers, start, tokens: stream.queries_of_all(spec, workers, start),
    own=of_keys,
    streamed=of_queries,
    stored=[like, like],
    tokens_B=tokens_B,
    added_NQS=masks(spec).swapaxes(1, 2),
  )
  return dq_BSHK, dk_BSHK, dv_BSHK


def _queries(spec: Spec, w: program.Work) -> tuple[Array]:
  """dq of a block."""
  (q, do, lse, delta), (k, v) = w.own, w.streamed
  lse_Q, delta_Q = rows(spec.interpret, lse[...]), rows(spec.interpret, delta[...])

  def step(slot, mask, dq_QK):
    s_QT = mask(product(spec.interpret, q, k.at[slot], transposed=True))
    p_QT = jnp.exp2(s_QT * spec.scale - across(lse_Q, BLOCK))
    dp_QT = product(spec.interpret, do, v.at[slot], transposed=True)
    ds_QT = p_QT * (dp_QT - across(delta_Q, BLOCK))
    return product(spec.interpret, ds_QT.astype(k.dtype), k.at[slot], onto=dq_QK)

  zero_QK = tile(spec.interpret, jnp.zeros((BLOCK, spec.head_dim), jnp.float32))
  return (over_keys(spec, w, zero_QK, step) * spec.head_dim**-0.5,)


def _keys(spec: Spec, w: program.Work) -> tuple[Array, Array]:
  """dk and dv of a block: keys are the rows of its tiles and queries their columns."""
  (k, v), (q, do, lse, delta) = w.own, w.streamed

  def step(slot, mask, carry):
    dk_TK, dv_TK = carry
    s_TQ = mask(product(spec.interpret, k, q.at[slot], transposed=True))
    p_TQ = jnp.exp2(s_TQ * spec.scale - down(columns(spec.interpret, lse[slot]), BLOCK))
    dv_TK = product(spec.interpret, p_TQ.astype(do.dtype), do.at[slot], onto=dv_TK)
    dp_TQ = product(spec.interpret, v, do.at[slot], transposed=True)
    ds_TQ = p_TQ * (dp_TQ - down(columns(spec.interpret, delta[slot]), BLOCK))
    return product(spec.interpret, ds_TQ.astype(q.dtype), q.at[slot], onto=dk_TK), dv_TK

  zero_TK = tile(spec.interpret, jnp.zeros((BLOCK, spec.head_dim), jnp.float32))
  dk_TK, dv_TK = over_queries(spec, w, (zero_TK, zero_TK), step)
  # Absent keys were scored like all others: each is a row of its own, and it is left out here.
  key = w.block * BLOCK + tile(spec.interpret, jax.lax.broadcasted_iota(jnp.int32, (BLOCK, spec.head_dim), 0))
  present = (key < w.tokens) | (w.block >= spec.text)
  return jnp.where(present, dk_TK, 0) * spec.head_dim**-0.5, jnp.where(present, dv_TK, 0)
