"""Arrays in the registers of a warpgroup, in the layout that wgmma reads and writes, and its products.

JAX's interpreter knows neither these layouts nor operands that are transposed or in registers, so where a kernel is
interpreted they are left out and a product is a plain one of the same operands.

Q rows and X columns of a tile.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Bool, Float

from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK


def tile(interpret: bool, x_QX: Array) -> Array:
  """x in the layout of a product."""
  return x_QX if interpret else plgpu.layout_cast(x_QX, plgpu.Layout.WGMMA)


def rows(interpret: bool, x_Q: Array) -> Array:
  """x, a number a row, in the registers that hold a tile's rows."""
  return x_Q if interpret else plgpu.layout_cast(x_Q, plgpu.Layout.WGMMA.reduce(1))


def columns(interpret: bool, x_X: Array) -> Array:
  """x, a number a column, in the registers that hold a tile's columns."""
  return x_X if interpret else plgpu.layout_cast(x_X, plgpu.Layout.WGMMA.reduce(0))


def across(x_Q: Float[Array, " Q"], count: int) -> Float[Array, "Q X"]:
  """A number a row, for every column."""
  return lax.broadcast_in_dim(x_Q, (x_Q.shape[0], count), [0])


def down(x_X: Float[Array, " X"], count: int) -> Float[Array, "Q X"]:
  """A number a column, for every row."""
  return lax.broadcast_in_dim(x_X, (count, x_X.shape[0]), [1])


def sees(interpret: bool, block_q: Any, block_k: Any, tokens: Any) -> Bool[Array, "Q X"]:
  """Whether a query of a block of the stream sees a key of a block of text, of which so many slots hold a token."""
  place = [tile(interpret, lax.broadcasted_iota(jnp.int32, (BLOCK, BLOCK), axis)) for axis in (0, 1)]
  query, key = block_q * BLOCK + place[0], block_k * BLOCK + place[1]
  return (key <= query) & (key < tokens)


def product(
  interpret: bool, a: Any, b: Any, *, transposed: bool = False, onto: Array | None = None
) -> Float[Array, "Q X"]:
  """a b, or a b^T; `onto` is added. a: in shared memory or registers, b: in shared memory."""
  if interpret:
    a, b = jnp.asarray(a[...]), b[...]
    sum_QX = lax.dot_general(a, b, (((1,), (int(transposed),)), ((), ())), preferred_element_type=jnp.float32)
    return sum_QX if onto is None else onto + sum_QX
  b = b.transpose((1, 0)) if transposed else b
  if onto is not None:
    return pl.run_state(lambda sum_ref: plgpu.wgmma(sum_ref, a, b))(plgpu.ACC.init(onto))

  def new(sum_ref):
    plgpu.wgmma(sum_ref, a, b)
    return sum_ref[...]

  return pl.run_scoped(new, plgpu.ACC((BLOCK, b.shape[1]), jnp.float32))
