"""Parts of a picture that are given: which of its codes stay, and which are drawn (zero-shot image-to-image).

    the top rows            a picture's first 15 of 32 rows of codes, and the transformer draws the rest (paper 3.3)
    all but a rectangle     which is drawn anew in raster order, each code seeing what is before it, given or drawn

P codes of a picture in raster order, h w its grid, H W pixels, S S of a square.
"""

import dataclasses
import re

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from dalle_jax.errors import UserError

# In place of a code that is to be drawn.
DRAWN = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Top:
  """The first rows of codes stay."""

  rows: int

  def given(self, codes_hw: Int[np.ndarray, "h w"]) -> Int[np.ndarray, " P"]:
    """The codes that stay, and DRAWN elsewhere. Raises UserError where nothing is left to draw."""
    grid = len(codes_hw)
    if not 1 <= self.rows < grid:
      raise UserError(f"got {self.rows} rows of a picture of {grid} rows of codes, wanted 1 to {grid - 1}")
    given_hw = np.full_like(codes_hw, DRAWN)
    given_hw[: self.rows] = codes_hw[: self.rows]
    return given_hw.reshape(-1)

  def __str__(self) -> str:
    return f"the top {self.rows} rows of codes are given"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
  """All stays but a rectangle of codes: rows from `top` up to `bottom`, columns from `left` up to `right`."""

  top: int
  left: int
  bottom: int
  right: int

  @classmethod
  def parse(cls, text: str) -> "Region":
    """Of top,left,bottom,right. Raises UserError for anything else."""
    if not re.fullmatch(r"\d+(,\d+){3}", text):
      raise UserError(f"got a region {text}, wanted top,left,bottom,right in codes, as in 8,8,24,24")
    return cls(**dict(zip(("top", "left", "bottom", "right"), map(int, text.split(",")))))

  def given(self, codes_hw: Int[np.ndarray, "h w"]) -> Int[np.ndarray, " P"]:
    """As `Top.given`. Raises UserError for a rectangle that is empty, outside, or all there is."""
    grid = len(codes_hw)
    if not (0 <= self.top < self.bottom <= grid and 0 <= self.left < self.right <= grid):
      raise UserError(f"got the region {self._numbers()}, wanted top < bottom and left < right, from 0 to {grid}")
    if self.bottom - self.top == self.right - self.left == grid:
      raise UserError(f"the region {self._numbers()} is the whole picture, and nothing would stay: make it smaller")
    given_hw = codes_hw.copy()
    given_hw[self.top : self.bottom, self.left : self.right] = DRAWN
    return given_hw.reshape(-1)

  def __str__(self) -> str:
    return f"all but the codes {self._numbers()} is given"

  def _numbers(self) -> str:
    return f"{self.top},{self.left},{self.bottom},{self.right}"


Part = Top | Region


def unseen(given_P: Int[np.ndarray, " P"]) -> int:
  """How many of the codes that stay come after one that is drawn, which therefore could not see them."""
  drawn = np.flatnonzero(given_P == DRAWN)
  return int(np.count_nonzero(given_P[drawn[0] :] != DRAWN)) if len(drawn) else 0


def two_panels(image_HWC: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
  """A square with the picture's middle in its upper half, and white below.

  For captions such as "the exact same cat on the top as a sketch on the bottom" (paper 3.3).
  """
  height, width, _ = image_HWC.shape
  high, wide = (min(height, width // 2), 2 * min(height, width // 2)) if height and width > 1 else (0, 0)
  if not high:
    raise UserError(f"got a picture of {width}x{height} pixels, wanted at least 2x1")
  top, left = (height - high) // 2, (width - wide) // 2
  canvas_SSC = np.full((wide, wide, 3), 255, np.uint8)
  canvas_SSC[:high] = image_HWC[top : top + high, left : left + wide]
  return canvas_SSC


def read_picture(file: str) -> UInt8[np.ndarray, "H W 3"]:
  """A picture's pixels, transparent ones on white. Raises UserError where there is none that can be read."""
  try:
    with Image.open(file) as image:
      if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
      if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
      elif image.mode in ("I", "F"):
        raise UserError(f"cannot read the picture {file}: its pixels are of 32 bits; save it with 8 or 16")
      return np.asarray(image.convert("RGB"))
  except UserError:
    raise
  except OSError as error:
    why = error.strerror or "it is no picture that can be read"
    raise UserError(f"cannot read the picture {file}: {why}") from error
  except (Image.DecompressionBombError, ValueError, SyntaxError) as error:
    raise UserError(f"cannot read the picture {file}: {str(error)[:80]}") from error
