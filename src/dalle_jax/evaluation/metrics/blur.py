"""Pictures without their fine detail: Gaussian blur, as where the paper compares models at radii 0 to 8 (paper 3.1).

N pictures, H W pixels.
"""

import importlib.metadata

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

RADII = (0, 1, 2, 4, 8)


def blurred(images_NHWC: UInt8[np.ndarray, "N H W 3"], radius: float | int) -> UInt8[np.ndarray, "N H W 3"]:
  """Each picture blurred by Pillow's GaussianBlur, `radius` its standard deviation in pixels; 0 leaves it as it is.

  The paper names neither its library nor what its radius is; "radius" is Pillow's word.
  """
  if not radius:
    return images_NHWC
  blur = ImageFilter.GaussianBlur(radius)
  return np.stack([np.asarray(Image.fromarray(image_HWC).filter(blur)) for image_HWC in images_NHWC])


def named() -> str:
  """What a protocol says of it."""
  return f"GaussianBlur of Pillow {importlib.metadata.version('pillow')}"
