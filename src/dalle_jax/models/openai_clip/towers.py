"""The two towers of a published CLIP (Radford et al. 2021), as functions of the parameters that `convert.clip` reads.

This is the network of the files that others published; `models.clip` is the one that this project trains. All products
are asked for at the highest precision, so that an accelerator gives what the published code gives on a CPU.

B batch, H W pixels, T text positions, E shared space.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Scalar

from dalle_jax.models.openai_clip import resnet, text, vit
from dalle_jax.models.openai_clip.config import Config, VisionTransformer


@functools.partial(jax.jit, static_argnames="cfg")
def encode_images(params: PyTree, cfg: Config, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
  """Vectors of pictures, whose sides are `cfg.vision.image`; pixels in [0, 1], less `cfg.mean`, over `cfg.std`.

  They are of any length, as the published code's are before it divides by them; see `unit`.
  """
  with jax.default_matmul_precision("highest"):
    if isinstance(cfg.vision, VisionTransformer):
      return vit.encode(params["vision"], cfg.vision, pixels_BHWC)
    return resnet.encode(params["vision"], cfg.vision, pixels_BHWC)


@functools.partial(jax.jit, static_argnames="cfg")
def encode_texts(params: PyTree, cfg: Config, ids_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
  """Vectors of captions, of any length too; T is at most `cfg.text.length`, and each holds an end-of-text."""
  with jax.default_matmul_precision("highest"):
    return text.encode(params["text"], cfg.text, ids_BT)


def unit(vectors_BE: Float[Array, "B E"]) -> Float[Array, "B E"]:
  """The same directions at length 1, so that products are cosines; a zero stays zero."""
  return vectors_BE / jnp.maximum(jnp.linalg.norm(vectors_BE, axis=-1, keepdims=True), 1e-12)


def scale(params: PyTree) -> Scalar:
  """exp(logit_scale): what training multiplied the cosines by."""
  return jnp.exp(jnp.asarray(params["logit_scale"]))
