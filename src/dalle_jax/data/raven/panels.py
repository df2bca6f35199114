"""What can stand in one panel of a matrix: a glyph, or some of eight strokes. Everything is finite and has an order.

A glyph   an outline in one of three sizes, three fills and, where it is small, nine places; or, where it is its own
          mirror image in no way, in one of eight turns
Strokes   any of the four sides, the two middle lines and the two diagonals of a square

Together with `alphabet`, all panels that could stand in the place of one, this is what the rules are stated on.
"""

import dataclasses
import functools
import itertools
import math

Point = tuple[float, float]

# Corners of outlines in [-1, 1] x [-1, 1], y downwards.
PLAIN: dict[str, tuple[Point, ...]] = {
  "circle": tuple((math.cos(math.tau * i / 48), math.sin(math.tau * i / 48)) for i in range(48)),
  "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
  "triangle": ((0, -1), (1, 0.9), (-1, 0.9)),
  "diamond": ((0, -1), (0.7, 0), (0, 1), (-0.7, 0)),
  "cross": tuple(
    (x, y)
    for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1))
    for x, y in ((a + 0.4 * b, b - 0.4 * a), (a - 0.4 * b, b + 0.4 * a), (0.4 * (a - b), 0.4 * (a + b)))
  ),
  "bar": ((-1, -0.55), (1, -0.55), (1, 0.55), (-1, 0.55)),
}
# No turn or reflection but the identity leaves one of these as it is.
TURNING: dict[str, tuple[Point, ...]] = {
  "boot": ((-0.6, -1), (0.0, -1), (0.0, 0.4), (0.7, 0.4), (0.7, 1), (-0.6, 1)),
  "flag": ((-0.7, -1), (0.8, -0.5), (-0.3, 0.0), (-0.3, 1), (-0.7, 1)),
  "wedge": ((-0.9, -1), (0.5, 1), (-0.9, 1)),
  "step": ((-1, -1), (-0.2, -1), (-0.2, -0.1), (0.9, -0.1), (0.9, 0.5), (-1, 0.5)),
}
# The symmetries of a square as matrices ((a, b), (c, d)), the identity first.
TURNS = tuple(
  matrix
  for a, b, c, d in itertools.product((1, 0, -1), repeat=4)
  for matrix in [((a, b), (c, d))]
  if abs(a * d - b * c) == 1 and 0 in (a, b) and 0 in (c, d)
)
SIZES, FILLS, PLACES = range(3), range(3), range(3)
SMALL, LARGE, MIDDLE = 0, 2, 1
OPEN, SOLID = 0, 2
STROKES = 8


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Glyph:
  """outline: of PLAIN or TURNING; size, fill (open, grey, solid), x, y: 0 to 2, a place's middle 1; turn: of TURNS."""

  outline: str
  size: int = LARGE
  fill: int = OPEN
  x: int = MIDDLE
  y: int = MIDDLE
  turn: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Strokes:
  """parts: a bit for each stroke that is there, at least one."""

  parts: int


Panel = Glyph | Strokes


def turned(glyph: Glyph, turn: int) -> Glyph:
  """The glyph after one more turn."""
  (a, b), (c, d) = TURNS[turn]
  (e, f), (g, h) = TURNS[glyph.turn]
  product = ((a * e + b * g, a * f + b * h), (c * e + d * g, c * f + d * h))
  return dataclasses.replace(glyph, turn=TURNS.index(product))


def glyphs() -> tuple[Glyph, ...]:
  """All plain glyphs, then all turned ones."""
  return (*plain_glyphs(), *turning_glyphs())


@functools.cache
def plain_glyphs() -> tuple[Glyph, ...]:
  """In the middle in each size; in the other places small."""
  found = []
  for outline, fill, size, x, y in itertools.product(PLAIN, FILLS, SIZES, PLACES, PLACES):
    if size == SMALL or (x, y) == (MIDDLE, MIDDLE):
      found.append(Glyph(outline=outline, size=size, fill=fill, x=x, y=y))
  return tuple(found)


@functools.cache
def turning_glyphs() -> tuple[Glyph, ...]:
  """Large, open and solid, in each turn."""
  return tuple(
    Glyph(outline=outline, fill=fill, turn=turn)
    for outline, fill, turn in itertools.product(TURNING, (OPEN, SOLID), range(len(TURNS)))
  )


@functools.cache
def all_strokes() -> tuple[Strokes, ...]:
  """Every set of strokes but the empty one."""
  return tuple(Strokes(parts=parts) for parts in range(1, 2**STROKES))


def alphabet(panel: Panel) -> tuple[Panel, ...]:
  """All panels of its family, itself among them."""
  return all_strokes() if isinstance(panel, Strokes) else glyphs()
