"""What the transformer and CLIP share: linear maps, norms, the MLP, embeddings. Parameters are float32.

Leaves are named by what an optimizer does with them: "kernel" may decay; "bias", "scale", "embedding" never do.

... any leading dimensions, D model width.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.sharding import axes, constrain, in_stages, is_split


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """GELU's sigmoid approximation, x * sigmoid(1.702 x)."""
  return x * jax.nn.sigmoid(1.702 * x)


class Linear(nn.Module):
  """x times a kernel of the shape given, [D, E], plus a bias.

  names: the kernel's logical axes; std: of its initial normal distribution (0 for zeros); the bias starts at 0.
  """

  shape: tuple[int, int]
  names: tuple[str | None, str | None]
  std: float
  dtype: str
  bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
    init = nn.initializers.normal(self.std) if self.std else nn.initializers.zeros
    y = product(x, self.param("kernel", axes(init, *self.names), self.shape), self.names, self.dtype)
    if not self.bias:
      return y
    bias_E = self.param("bias", axes(nn.initializers.zeros, self.names[1]), self.shape[1:])
    return y + jnp.expand_dims(bias_E.astype(self.dtype), tuple(range(y.ndim - 1)))


def product(
  x: Float[Array, "... D"], kernel_DE: Float[Array, "D E"], names: tuple[str | None, str | None], dtype: str
) -> Float[Array, "... E"]:
  """x times a kernel with these logical axes, computed in this dtype."""
  rows = x.astype(dtype)
  if not is_split("seq"):  # one leading axis: with two, the CPU's gradient products first copy their input, slowly
    rows = rows.reshape(-1, x.shape[-1])
  return jnp.dot(rows, in_stages(kernel_DE.astype(dtype), *names)).reshape(*x.shape[:-1], kernel_DE.shape[1])


class Norm(nn.Module):
  """LayerNorm over the last dimension, with statistics in float32."""

  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    d = x.shape[-1]
    scale_D = self.param("scale", axes(nn.initializers.ones, None), (d,))
    bias_D = self.param("bias", axes(nn.initializers.zeros, None), (d,))
    x = x.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    lead = tuple(range(x.ndim - 1))
    y = centred * jax.lax.rsqrt(variance + 1e-5) * jnp.expand_dims(scale_D, lead) + jnp.expand_dims(bias_D, lead)
    return y.astype(self.dtype)


class Embedding(nn.Module):
  """A table of vectors. `table()` is the table in the compute dtype; calling looks rows up."""

  rows: int
  dim: int
  std: float
  names: tuple[str | None, str | None]
  dtype: str

  def setup(self) -> None:
    self.embedding = self.param("embedding", axes(nn.initializers.normal(self.std), *self.names), (self.rows, self.dim))

  def __call__(self, ids: Int[Array, "..."]) -> Float[Array, "... D"]:
    return (_look_up if is_split("batch") else _take)(self.embedding, ids, self.dtype)

  def table(self) -> Float[Array, "rows D"]:
    return self.embedding.astype(self.dtype)


def _take(table_VD: Float[Array, "V D"], ids: Int[Array, "..."], dtype: str) -> Float[Array, "... D"]:
  return jnp.take(table_VD, ids, axis=0).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _look_up(table_VD: Float[Array, "V D"], ids: Int[Array, "..."], dtype: str) -> Float[Array, "... D"]:
  """`_take` whose gradient is a product with one-hot rows, so that a mesh adds it up as it does every matrix's.

  A scatter's is added up whole on all devices, with twice the traffic; on one device a scatter is faster.
  """
  return _take(table_VD, ids, dtype)


def _look_up_forward(table_VD: Array, ids: Array, dtype: str) -> tuple[Array, tuple[Array, Array]]:
  return _take(table_VD, ids, dtype), (table_VD, ids)


def _look_up_backward(dtype: str, kept: tuple[Array, Array], g: Array) -> tuple[Array, None]:
  table_VD, ids = kept
  hot_NV = jax.nn.one_hot(ids.reshape(-1), table_VD.shape[0], dtype=dtype)
  exact = jax.lax.Precision.HIGHEST if dtype == "float32" else None  # a sum of rows, which no product may round
  sum_VD = jnp.einsum(
    "NV,ND->VD", hot_NV, g.reshape(-1, g.shape[-1]), precision=exact, preferred_element_type=table_VD.dtype
  )
  return sum_VD, None


_look_up.defvjp(_look_up_forward, _look_up_backward)


class Mlp(nn.Module):
  """Two linear maps through 4 D hidden units with `quick_gelu` between. rows: the logical axis of the first of x's."""

  dim: int
  std_in: float
  std_out: float
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "B L D"], rows: str | None = "batch") -> Float[Array, "B L D"]:
    d, f = self.dim, 4 * self.dim
    h_BLF = Linear((d, f), ("embed", "mlp"), self.std_in, self.dtype, name="up")(x)
    h_BLF = constrain(quick_gelu(h_BLF), rows, "seq", "mlp")
    return Linear((f, d), ("mlp", "embed"), self.std_out, self.dtype, name="down")(h_BLF)


class Qkv(nn.Module):
  """Queries, keys and values of all heads, by three matrices in one kernel [3, D, H K]. rows: as of `Mlp`, of results.

  Heads and their dimension are one axis: a TPU's memory keeps arrays whose last axis is 64 in twice the room.
  """

  heads: int
  head_dim: int
  std: float
  dtype: str

  @nn.compact
  def __call__(
    self, x_BLD: Float[Array, "B L D"], rows: str | None = "batch"
  ) -> tuple[Float[Array, "B L H K"], Float[Array, "B L H K"], Float[Array, "B L H K"]]:
    d, width = x_BLD.shape[-1], self.heads * self.head_dim
    kernel = self.param("kernel", axes(nn.initializers.normal(self.std), None, "embed", "heads"), (3, d, width))
    bias = self.param("bias", axes(nn.initializers.zeros, None, "heads"), (3, width))
    names = ("embed", "heads")
    if x_BLD.shape[1] == 1 and not any(map(is_split, ("rows", *names))):
      made = self._of_one_position(x_BLD, kernel, bias)
    else:
      made = (
        product(x_BLD, w_DE, names, self.dtype) + b_E.astype(self.dtype)[None, None] for w_DE, b_E in zip(kernel, bias)
      )
    shape = (*x_BLD.shape[:-1], self.heads, self.head_dim)
    q, k, v = (constrain(y_BLE.reshape(shape), rows, "seq", "heads", "head_dim") for y_BLE in made)
    return q, k, v

  def _of_one_position(self, x_B1D: Array, kernel: Array, bias: Array) -> Array:
    """As three products in one: drawing would else copy each matrix out of the kernel again for every token.

    Not on a mesh, whose partitioner gathers the kernel for it.
    """
    x_3BD = jnp.broadcast_to(x_B1D[:, 0].astype(self.dtype), (3, x_B1D.shape[0], x_B1D.shape[2]))
    y_3BE = jnp.einsum("cbd,cde->cbe", x_3BD, kernel.astype(self.dtype)) + bias.astype(self.dtype)[:, None]
    return y_3BE[:, :, None]


def join_heads(o_BLHK: Float[Array, "B L H K"]) -> Float[Array, "B L E"]:
  """The heads' outputs side by side, as the matrix reads them that brings them back to the model's width."""
  return o_BLHK.reshape(*o_BLHK.shape[:2], -1)


def residual_std(layers: int) -> float:
  """Factor on the initial weights of matrices that write to the residual stream, 1/sqrt(2 layers)."""
  return 1 / math.sqrt(2 * layers)
