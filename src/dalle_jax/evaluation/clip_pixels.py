"""Pictures as the published CLIP wants them, number for number as its authors' and open_clip's transforms make them.

The short side is resized to the network's by Pillow's bicubic filter, the square in the middle is cut out, and pixels
in [0, 1] are normalised with the mean and standard deviation of each channel.

B batch, H W pixels, S side of the network's pictures.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dalle_jax.models.openai_clip import Config


def prepare(images: Iterable[UInt8[np.ndarray, "H W 3"]], cfg: Config) -> Float[np.ndarray, "B S S 3"]:
  """Pictures, which may be of several sizes, as float32."""
  side = cfg.vision.image
  square_BSS3 = np.stack([middle(image_HWC, side) for image_HWC in images])
  mean, std = (np.array(each, np.float32)[None, None, None] for each in (cfg.mean, cfg.std))
  return (square_BSS3.astype(np.float32) / np.float32(255) - mean) / std


def middle(image_HWC: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:
  """The square in the middle at this side; halves of pixels are rounded as Python rounds."""
  height, width, _ = image_HWC.shape
  short = min(height, width)
  tall, wide = int(side * height / short), int(side * width / short)
  image = Image.fromarray(np.ascontiguousarray(image_HWC))
  if (height, width) != (tall, wide):
    image = image.resize((wide, tall), Image.Resampling.BICUBIC)
  top, left = round((tall - side) / 2), round((wide - side) / 2)
  return np.asarray(image)[top : top + side, left : left + side]
