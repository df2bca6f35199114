"""How pictures get to the 299 pixels that Inception reads: FID moves with it, so it belongs to a result's protocol.

    clean          clean-fid's: Pillow's bicubic, each channel as floats, clipped to 0 to 255 and never rounded
    pytorch-fid    pytorch-fid's: bilinear with half-pixel centres and no smoothing, so shrinking aliases
    tensorflow     the original FID's and torch-fidelity's: bilinear as TensorFlow 1 had it, from each pixel's corner

Each brings its own step from 0 to 255 into the network's range, about [-1, 1]. Parmar et al. 2022, "On aliased resizing
and surprising subtleties in GAN evaluation", measure what the choice does to FID.

N pictures, H W their pixels, S 299, C channels.
"""

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
from jaxtyping import Float, Int, UInt8
from PIL import Image

from dalle_jax.errors import UserError

SIDE = 299


def clean(image_HWC: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "S S 3"]:
  """float32 from 0 to 255, equal to clean-fid's."""
  channels = [_bicubic(image_HWC[..., channel].astype(np.float32)) for channel in range(3)]
  return np.stack(channels, axis=-1)


def half_pixel(image_HWC: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "S S 3"]:
  """float32 from 0 to 1, PyTorch's bilinear interpolation with align_corners=False."""
  x_HWC = image_HWC.astype(np.float32) / np.float32(255)
  return _bilinear(x_HWC, *(_half_pixel_places(size) for size in x_HWC.shape[:2]))


def corner(image_HWC: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "S S 3"]:
  """float32 from 0 to 255, TensorFlow 1's bilinear interpolation with align_corners=False."""
  x_HWC = image_HWC.astype(np.float32)
  return _bilinear(x_HWC, *(_corner_places(size) for size in x_HWC.shape[:2]))


@dataclasses.dataclass(frozen=True)
class Resize:
  """A way to 299 pixels. of: resizes one picture; middle and half: what becomes 0, and how far from it 1 is."""

  name: str
  filter: str
  library: str
  of: Callable[[np.ndarray], np.ndarray]
  middle: float
  half: float

  def __call__(self, images: Iterable[UInt8[np.ndarray, "_ _ 3"]]) -> Float[np.ndarray, "N S S 3"]:
    """The pictures, of whatever sizes, as the network takes them; float32."""
    with ThreadPoolExecutor() as threads:
      resized_NSSC = np.stack(list(threads.map(self.of, images)))
    return (resized_NSSC - np.float32(self.middle)) / np.float32(self.half)

  def protocol(self) -> dict[str, str]:
    """What a result says of it."""
    return {"resize": self.name, "filter": self.filter, "library": self.library}


CLEAN = Resize("clean", "bicubic, smoothed, not rounded", f"Pillow {PIL.__version__}", clean, 128.0, 128.0)
PYTORCH_FID = Resize("pytorch-fid", "bilinear, half-pixel centres", f"NumPy {np.__version__}", half_pixel, 0.5, 0.5)
TENSORFLOW = Resize("tensorflow", "bilinear, from corners", f"NumPy {np.__version__}", corner, 128.0, 128.0)
RESIZES = {each.name: each for each in (CLEAN, PYTORCH_FID, TENSORFLOW)}


def named(name: str) -> Resize:
  """The resize of that name. Raises UserError naming those there are."""
  if name not in RESIZES:
    raise UserError(f"there is no resize {name!r}; wanted one of {', '.join(RESIZES)}")
  return RESIZES[name]


def _bicubic(channel_HW: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "S S"]:
  return np.asarray(Image.fromarray(channel_HW).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(0, 255)


def _half_pixel_places(size: int) -> Float[np.ndarray, " S"]:
  """Where the 299 new pixels' centres lie among the old ones': PyTorch's float32, multiplied and subtracted at once."""
  scale = float(np.float32(size) / np.float32(SIDE))
  return np.maximum(scale * (np.arange(SIDE) + 0.5) - 0.5, 0).astype(np.float32)


def _corner_places(size: int) -> Float[np.ndarray, " S"]:
  return np.arange(SIDE, dtype=np.float32) * np.float32(size / SIDE)


def _bilinear(
  x_HWC: Float[np.ndarray, "H W C"], rows_S: Float[np.ndarray, " S"], columns_S: Float[np.ndarray, " S"]
) -> Float[np.ndarray, "S S C"]:
  top_S, bottom_S, down_S = _between(rows_S, x_HWC.shape[0])
  left_S, right_S, along_S = _between(columns_S, x_HWC.shape[1])
  x_HSC = x_HWC[:, left_S] + (x_HWC[:, right_S] - x_HWC[:, left_S]) * along_S[None, :, None]
  return x_HSC[top_S] + (x_HSC[bottom_S] - x_HSC[top_S]) * down_S[:, None, None]


def _between(
  places_S: Float[np.ndarray, " S"], size: int
) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " S"], Float[np.ndarray, " S"]]:
  """The old pixels on both sides of each place, and how far it is from the first to the second."""
  first_S = places_S.astype(np.int64)
  return first_S, np.minimum(first_S + 1, size - 1), places_S - first_S.astype(np.float32)
