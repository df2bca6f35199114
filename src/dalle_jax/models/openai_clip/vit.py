"""CLIP's vision transformer (Radford et al. 2021): a class token beside the patches, a norm before and after.

B batch, H W pixels, L positions (the class token first), X numbers of a patch, D width, E shared space.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dalle_jax.models.openai_clip import blocks
from dalle_jax.models.openai_clip.config import VisionTransformer


def encode(params: PyTree, cfg: VisionTransformer, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
  """Normalised pixels to the shared space."""
  side, p, batch = cfg.image // cfg.patch, cfg.patch, pixels_BHWC.shape[0]
  patches_BLX = pixels_BHWC.reshape(batch, side, p, side, p, 3).swapaxes(2, 3).reshape(batch, side**2, p * p * 3)
  class_B1D = jnp.broadcast_to(params["class_token"][None, None], (batch, 1, cfg.stack.width))
  x_BLD = jnp.concatenate([class_B1D, patches_BLX @ params["patch"]], axis=1) + params["position"][None]
  x_BLD = blocks.stack(params["blocks"], cfg.stack, blocks.layer_norm(params["norm_in"], x_BLD), causal=False)
  return blocks.layer_norm(params["norm_out"], x_BLD[:, 0]) @ params["head"]
