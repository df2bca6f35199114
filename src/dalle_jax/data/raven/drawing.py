"""Panels and matrices as pixels: black ink on white, or the other way round, antialiased, the same on every machine.

S S pixels of a panel or picture.
"""

import functools

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from dalle_jax.data.raven.panels import PLAIN, TURNING, TURNS, Glyph, Panel, Point, Strokes

PAPER, INK = 255, 0
FINE = 8  # drawn so many times as large, and averaged
STROKE, EDGE = 0.12, 0.08  # widths, in panels: of strokes, and of a glyph's outline
EXTENT = (0.22, 0.32, 0.42)  # half of a glyph's side, by size
SHIFT = 0.25  # of a place that is not the middle
GREY = (PAPER, 150, INK)  # inside a glyph, by fill
NEAR, FAR, HALF = 0.14, 0.86, 0.5
LINES: tuple[tuple[Point, Point], ...] = (
  ((NEAR, NEAR), (FAR, NEAR)),
  ((NEAR, FAR), (FAR, FAR)),
  ((NEAR, NEAR), (NEAR, FAR)),
  ((FAR, NEAR), (FAR, FAR)),
  ((NEAR, HALF), (FAR, HALF)),
  ((HALF, NEAR), (HALF, FAR)),
  ((NEAR, NEAR), (FAR, FAR)),
  ((NEAR, FAR), (FAR, NEAR)),
)


@functools.lru_cache(maxsize=4096)
def panel(shown: Panel, side: int, inverted: bool = False) -> UInt8[np.ndarray, "S S 3"]:
  """The panel, `side` pixels a side; read-only. inverted: every pixel x is 255 - x instead."""
  canvas = Image.new("L", (side * FINE, side * FINE), PAPER)
  pen, scale = ImageDraw.Draw(canvas), side * FINE
  if isinstance(shown, Strokes):
    for i, ends in enumerate(LINES):
      if shown.parts >> i & 1:
        _stroke(pen, [(x * scale, y * scale) for x, y in ends], round(STROKE * scale))
  else:
    corners = [(x * scale, y * scale) for x, y in _corners(shown)]
    pen.polygon(corners, fill=GREY[shown.fill])
    _stroke(pen, [*corners, corners[0]], round(EDGE * scale))
  grey_SS = np.asarray(canvas.resize((side, side), Image.Resampling.BOX))
  picture_SSC = np.repeat(grey_SS[:, :, None], 3, axis=2)
  picture_SSC = 255 - picture_SSC if inverted else picture_SSC
  picture_SSC.flags.writeable = False
  return picture_SSC


def blank(side: int, inverted: bool = False) -> UInt8[np.ndarray, "S S 3"]:
  """A picture without anything in it."""
  return np.full((side, side, 3), 255 - PAPER if inverted else PAPER, np.uint8)


def _corners(glyph: Glyph) -> list[Point]:
  (a, b), (c, d) = TURNS[glyph.turn]
  extent = EXTENT[glyph.size] - EDGE / 2
  middle_x, middle_y = 0.5 + SHIFT * (glyph.x - 1), 0.5 + SHIFT * (glyph.y - 1)
  outline = PLAIN.get(glyph.outline) or TURNING[glyph.outline]
  return [(middle_x + extent * (a * x + b * y), middle_y + extent * (c * x + d * y)) for x, y in outline]


def _stroke(pen: ImageDraw.ImageDraw, points: list[Point], width: int) -> None:
  """A line along the points with round ends and corners."""
  pen.line(points, fill=INK, width=width)
  for x, y in points:
    pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=INK)
