"""What stands between pictures and codes, whichever network it is: the dVAE, a VQ-VAE, or a VQGAN.

B batch, H W pixels, h w code grid.
"""

import numpy as np
from jaxtyping import Array, Int, PyTree, UInt8

from dalle_jax.models import dvae, vq, vqgan

# All have `image`, `grid` and `vocab`.
Config = dvae.Config | vq.VqConfig | vqgan.VqganConfig

_MODELS = {dvae.Config: dvae, vq.VqConfig: vq, vqgan.VqganConfig: vqgan}


def encode_images(
  params: PyTree, cfg: Config, images_BHWC: UInt8[Array | np.ndarray, "B H W 3"]
) -> Int[Array, "B h w"]:
  """The codes of pictures. Raises UserError where the weights only decode."""
  return _MODELS[type(cfg)].encode_images(params, cfg, images_BHWC)


def decode_images(params: PyTree, cfg: Config, codes_Bhw: Int[Array | np.ndarray, "B h w"]) -> UInt8[Array, "B H W 3"]:
  """The pictures that codes stand for, as 8-bit RGB."""
  return _MODELS[type(cfg)].decode_images(params, cfg, codes_Bhw)
