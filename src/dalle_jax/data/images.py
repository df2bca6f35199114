"""Crops of pictures: the paper's two augmentations (listings 1 and 2), and the plain middle for evaluation.

    stage 1   a square from anywhere, shrunk to 9/8 to 12/8 of the size wanted, any piece of it, half of them mirrored
    stage 2   a square from near the middle, shrunk to 8/8 to 9/8, any piece of it, none mirrored: text stays text
    centre    the square in the middle, at the size wanted

A picture whose short side is under the size wanted is enlarged to it first.

H W pixels of the picture, S S of the crop.
"""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage1Crop:
  """The dVAE's (paper, listing 1)."""

  size: int = 256

  def __post_init__(self) -> None:
    _check_size(self.size)

  def __call__(self, image_HWC: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    image_HWC = _at_least(image_HWC, self.size)
    height, width, _ = image_HWC.shape
    side = min(height, width)
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    scaled = rng.integers(min(side, self.size * 9 // 8), min(side, self.size * 12 // 8) + 1)
    piece_SSC = _piece(image_HWC[top : top + side, left : left + side], int(scaled), self.size, rng)
    return piece_SSC[:, ::-1] if rng.random() < 0.5 else piece_SSC


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage2Crop:
  """The transformer's (paper, listing 2)."""

  size: int = 256

  def __post_init__(self) -> None:
    _check_size(self.size)

  def __call__(self, image_HWC: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    image_HWC = _at_least(image_HWC, self.size)
    height, width, _ = image_HWC.shape
    side = min(height, width)
    top, left = _near_middle(height - side, rng), _near_middle(width - side, rng)
    scaled = rng.integers(self.size, max(self.size, min(side, self.size * 9 // 8)) + 1)
    return _piece(image_HWC[top : top + side, left : left + side], int(scaled), self.size, rng)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentreCrop:
  """The square in the middle; draws nothing from the generator."""

  size: int = 256

  def __post_init__(self) -> None:
    _check_size(self.size)

  def __call__(self, image_HWC: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    del rng
    height, width, _ = image_HWC.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(image_HWC[top : top + side, left : left + side], self.size, self.size)


Crop = Stage1Crop | Stage2Crop | CentreCrop


def numbered_crop(
  crop: Crop, image_HWC: UInt8[np.ndarray, "H W 3"], *, seed: int, key: str, number: int
) -> UInt8[np.ndarray, "S S 3"]:
  """Crop `number` of the picture named `key`: a function of the seed, the key and the number alone."""
  return crop(image_HWC, np.random.default_rng([seed, number, *key.encode()]))


def _piece(square_HHC: np.ndarray, scaled: int, size: int, rng: np.random.Generator) -> np.ndarray:
  scaled_HHC = _resize(square_HHC, scaled, scaled)
  top, left = rng.integers(scaled - size + 1, size=2)
  return scaled_HHC[top : top + size, left : left + size]


def _near_middle(slack: int, rng: np.random.Generator) -> int:
  """From [3/8, 5/8) of the slack, an interval at least one pixel wide."""
  first = 3 * slack // 8
  return int(rng.integers(first, max(first + 1, 5 * slack // 8)))


def _at_least(image_HWC: np.ndarray, size: int) -> np.ndarray:
  height, width, _ = image_HWC.shape
  if min(height, width) >= size:
    return image_HWC
  scale = size / min(height, width)
  return _resize(image_HWC, max(size, round(height * scale)), max(size, round(width * scale)))


def _resize(image_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
  """By averaging areas (of whole pixels) where it shrinks, as in the paper; by cubic interpolation where it grows."""
  if image_HWC.shape[:2] == (height, width):
    return image_HWC
  shrinks = height * width < image_HWC.shape[0] * image_HWC.shape[1]
  how = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
  return np.asarray(Image.fromarray(np.ascontiguousarray(image_HWC)).resize((width, height), how))


def _check_size(size: int) -> None:
  if size < 1:
    raise UserError(f"a crop of {size} pixels: at least 1 is wanted")
