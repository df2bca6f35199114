"""CLIP's residual network (Radford et al. 2021): three convolutions as the stem, averages where it strides, and at the
end an attention that asks with the mean.

B batch, H W pixels, C channels, L positions (the mean first), E shared space.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dalle_jax.models.openai_clip import blocks
from dalle_jax.models.openai_clip.config import ResNet


def encode(params: PyTree, cfg: ResNet, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
  """Normalised pixels to the shared space."""
  x_BHWC = pixels_BHWC
  for i, stride in enumerate((2, 1, 1), start=1):
    x_BHWC = jax.nn.relu(_conv_and_norm(params["stem"], str(i), x_BHWC, stride))
  x_BHWC = _average(x_BHWC, 2)
  for i, count in enumerate(cfg.blocks):
    for j in range(count):
      x_BHWC = bottleneck(params[f"stage_{i + 1}"][f"block_{j}"], x_BHWC, stride=2 if i and not j else 1)
  return attention_pool(params["pool"], x_BHWC, cfg.heads)


def bottleneck(params: PyTree, x_BHWC: Float[Array, "B H W C"], stride: int) -> Float[Array, "B h w c"]:
  """Narrow, look around, widen; what goes past is averaged and widened too where its shape would not fit."""
  y_BHWC = jax.nn.relu(_conv_and_norm(params, "1", x_BHWC))
  y_BHWC = _average(jax.nn.relu(_conv_and_norm(params, "2", y_BHWC)), stride)
  y_BHWC = _conv_and_norm(params, "3", y_BHWC)
  past_BHWC = _conv_and_norm(params, "past", _average(x_BHWC, stride)) if "conv_past" in params else x_BHWC
  return jax.nn.relu(past_BHWC + y_BHWC)


def attention_pool(params: PyTree, x_BHWC: Float[Array, "B H W C"], heads: int) -> Float[Array, "B E"]:
  """What attention sees that asks with the mean of all places, among them and the mean itself."""
  x_BLC = x_BHWC.reshape(x_BHWC.shape[0], -1, x_BHWC.shape[-1])
  x_BLC = jnp.concatenate([jnp.mean(x_BLC, axis=1, keepdims=True), x_BLC], axis=1) + params["position"][None]
  k_BLC, v_BLC = (blocks.linear(params[name], x_BLC) for name in ("key", "value"))
  asked_B1C = blocks.attend(blocks.linear(params["query"], x_BLC[:, :1]), k_BLC, v_BLC, heads, causal=False)
  return blocks.linear(params["head"], asked_B1C[:, 0])


def _conv_and_norm(params: PyTree, name: str, x_BHWC: Float[Array, "B H W C"], stride: int = 1) -> Array:
  """A convolution padded to keep the size, then a batch norm with the statistics that training left."""
  kernel_HWCD, norm = params[f"conv_{name}"], params[f"norm_{name}"]
  pad = kernel_HWCD.shape[0] // 2
  y_BHWD = jax.lax.conv_general_dilated(
    x_BHWC, kernel_HWCD, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  factor_D = norm["scale"] * jax.lax.rsqrt(norm["variance"] + blocks.EPSILON)
  return (y_BHWD - norm["mean"][None, None, None]) * factor_D[None, None, None] + norm["bias"][None, None, None]


def _average(x_BHWC: Float[Array, "B H W C"], side: int) -> Float[Array, "B h w C"]:
  """Means of side x side squares that do not overlap."""
  b, h, w, c = x_BHWC.shape
  return jnp.mean(x_BHWC.reshape(b, h // side, side, w // side, side, c), axis=(2, 4))
