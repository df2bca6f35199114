"""What the transformer and CLIP share: linear maps, norms, the MLP, embeddings. Parameters are float32.

Leaves are named by what an optimizer does with them: "kernel" may decay; "bias", "scale", "embedding" never do.

... any leading dimensions, D model width.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.sharding import axes, constrain, is_split


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """GELU's sigmoid approximation, x * sigmoid(1.702 x)."""
  return x * jax.nn.sigmoid(1.702 * x)


class Linear(nn.Module):
  """Contracts the last `len(shape) - len(out_shape)` dimensions of x with a kernel of the shape given.

  names: logical axes of the kernel; std: of its initial normal distribution (0 for zeros); the bias starts at 0.
  """

  shape: tuple[int, ...]
  names: tuple[str | None, ...]
  contract: int
  std: float
  dtype: str
  bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
    init = nn.initializers.normal(self.std) if self.std else nn.initializers.zeros
    kernel = self.param("kernel", axes(init, *self.names), self.shape)
    out_shape, out_names = self.shape[self.contract :], self.names[self.contract :]
    lead, rows = x.shape[: x.ndim - self.contract], x.astype(self.dtype)
    if not is_split("seq"):  # one leading axis: with two, the CPU's gradient products first copy their input, slowly
      rows = rows.reshape(-1, *self.shape[: self.contract])
    y = jnp.tensordot(rows, kernel.astype(self.dtype), self.contract).reshape(*lead, *out_shape)
    if not self.bias:
      return y
    bias = self.param("bias", axes(nn.initializers.zeros, *out_names), out_shape)
    return y + jnp.expand_dims(bias.astype(self.dtype), tuple(range(y.ndim - bias.ndim)))


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
    return jnp.take(self.embedding, ids, axis=0).astype(self.dtype)

  def table(self) -> Float[Array, "rows D"]:
    return self.embedding.astype(self.dtype)


class Mlp(nn.Module):
  """Two linear maps through 4 D hidden units with `quick_gelu` between."""

  dim: int
  std_in: float
  std_out: float
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    d, f = self.dim, 4 * self.dim
    h_BLF = Linear((d, f), ("embed", "mlp"), 1, self.std_in, self.dtype, name="up")(x)
    h_BLF = constrain(quick_gelu(h_BLF), "batch", "seq", "mlp")
    return Linear((f, d), ("mlp", "embed"), 1, self.std_out, self.dtype, name="down")(h_BLF)


def qkv(dim: int, heads: int, head_dim: int, std: float, dtype: str) -> Linear:
  """Queries, keys and values of all heads from one kernel [D, 3, H, K]; `split_qkv` takes its output apart."""
  return Linear((dim, 3, heads, head_dim), ("embed", None, "heads", "head_dim"), 1, std, dtype)


def merge(dim: int, heads: int, head_dim: int, std: float, dtype: str) -> Linear:
  """The heads' outputs back to the model's width, by a kernel [H, K, D]."""
  return Linear((heads, head_dim, dim), ("heads", "head_dim", "embed"), 2, std, dtype)


def split_qkv(
  y_BL3HK: Float[Array, "B L 3 H K"],
) -> tuple[Float[Array, "B L H K"], Float[Array, "B L H K"], Float[Array, "B L H K"]]:
  """Queries, keys, values."""
  q, k, v = (constrain(y_BL3HK[:, :, i], "batch", "seq", "heads", "head_dim") for i in range(3))
  return q, k, v


def residual_std(layers: int) -> float:
  """Factor on the initial weights of matrices that write to the residual stream, 1/sqrt(2 layers)."""
  return 1 / math.sqrt(2 * layers)
