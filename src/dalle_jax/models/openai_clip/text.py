"""CLIP's text transformer (Radford et al. 2021): causal, read where the caption ends.

B batch, T text positions, D width, E shared space.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dalle_jax.models.openai_clip import blocks
from dalle_jax.models.openai_clip.config import Text


def encode(params: PyTree, cfg: Text, ids_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
  """Captions, each with its end-of-text, to the shared space; what stands after the end is not seen."""
  x_BTD = params["token"][ids_BT] + params["position"][None, : ids_BT.shape[1]]
  x_BTD = blocks.stack(params["blocks"], cfg.stack, x_BTD, causal=True)
  end_B = jnp.argmax(ids_BT if cfg.end is None else ids_BT == cfg.end, axis=1)
  x_BD = jnp.take_along_axis(x_BTD, end_B[:, None, None], axis=1)[:, 0]
  return blocks.layer_norm(params["norm_out"], x_BD) @ params["head"]
