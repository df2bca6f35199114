"""Pictures of the attention patterns, drawn from their masks; `python -m dalle_jax.pattern_pictures FILE` writes them.

A square a pair of positions, queries downwards and keys to the right; seen pairs are dark, by what looks at what.
"""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern
from dalle_jax.ops.sparse_attention.patterns import KINDS

TEXT, GRID, KERNEL = 6, 4, 3  # the paper's figure 11
CELL = 7  # pixels a pair
GAP = 18
# By whether (query, key) is text.
SEEN = {(True, True): (70, 70, 70), (False, True): (60, 110, 180), (False, False): (200, 90, 40)}
UNSEEN = (238, 238, 238)


def picture(pattern: Pattern) -> UInt8[np.ndarray, "height width 3"]:
  """The mask of one pattern: text by text dark grey, text by image tokens blue, image by image tokens orange."""
  mask = pattern.mask()
  is_text = np.arange(pattern.length) < pattern.text
  rgb = np.full((*mask.shape, 3), UNSEEN, np.uint8)
  for (query, key), colour in SEEN.items():
    rgb[mask & (is_text == query)[:, None] & (is_text == key)[None, :]] = colour
  large = rgb.repeat(CELL, 0).repeat(CELL, 1)
  large[::CELL] = large[:, ::CELL] = 255
  return large


def sheet() -> Image.Image:
  """All kinds side by side in two rows, with their names."""
  pictures = {kind: picture(Pattern(text=TEXT, grid=GRID, kind=kind, kernel=KERNEL)) for kind in KINDS}
  size = next(iter(pictures.values())).shape[0]
  columns = (len(KINDS) + 1) // 2
  page = Image.new("RGB", (columns * (size + GAP) + GAP, 2 * (size + 2 * GAP) + GAP), "white")
  draw = ImageDraw.Draw(page)
  for i, (kind, rgb) in enumerate(pictures.items()):
    x, y = GAP + i % columns * (size + GAP), GAP + i // columns * (size + 2 * GAP)
    draw.text((x, y), kind, fill="black")
    page.paste(Image.fromarray(rgb), (x, y + GAP))
  return page


def main(argv: list[str]) -> int:
  """Writes the sheet to the file named. Raises UserError when none is."""
  if len(argv) != 1:
    raise UserError("name the one PNG to write, such as patterns.png")
  sheet().save(Path(argv[0]))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
