"""What stands between pictures and codes, whichever network it is: the dVAE, a VQ-VAE, or a VQGAN.

B batch, H W pixels, h w code grid.
"""

import numpy as np
from jaxtyping import Array, Int, PyTree, UInt8, UInt32

from dalle_jax.errors import UserError
from dalle_jax.models import dvae, vq, vqgan

# All have `image`, `grid` and `vocab`.
Config = dvae.Config | vq.VqConfig | vqgan.VqganConfig

_MODELS = {dvae.Config: dvae, vq.VqConfig: vq, vqgan.VqganConfig: vqgan}


def encode_images(
  params: PyTree, cfg: Config, images_BHWC: UInt8[Array | np.ndarray, "B H W 3"]
) -> Int[Array, "B h w"]:
  """The codes of pictures. Raises UserError where the weights only decode."""
  return _MODELS[type(cfg)].encode_images(params, cfg, images_BHWC)


def sample_codes(
  params: PyTree,
  cfg: Config,
  images_BHWC: UInt8[Array | np.ndarray, "B H W 3"],
  seed_B: UInt32[Array | np.ndarray, " B"],
) -> Int[Array, "B h w"]:
  """Codes of pictures, drawn with a seed each. Raises UserError where codes are those nearest and have none.

  A VqConfig is a dvae.Config too, so the type itself is asked for.
  """
  if type(cfg) is not dvae.Config:
    raise UserError("a VQ-VAE and a VQGAN give codes no probabilities to draw them by: take the nearest, sampled False")
  return dvae.sample_codes(params, cfg, images_BHWC, seed_B)


def decode_images(params: PyTree, cfg: Config, codes_Bhw: Int[Array | np.ndarray, "B h w"]) -> UInt8[Array, "B H W 3"]:
  """The pictures that codes stand for, as 8-bit RGB."""
  return _MODELS[type(cfg)].decode_images(params, cfg, codes_Bhw)
