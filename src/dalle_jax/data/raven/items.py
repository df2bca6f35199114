"""A matrix as an item of the probe: where its panels lie on the grid of codes, its pixels, and what is to be completed.

A panel is a third of the grid a side, and a matrix of 2x2 panels has the places of the last four of one of 3x3: what is
drawn in a panel has the same codes everywhere, and the missing corner is always the same rectangle.

Of the kinds that the data set shows, every fourth matrix, chosen by a digest of its panels, is reserved: the probe
takes those alone and the data set never shows one.

S S pixels.
"""

import dataclasses
import hashlib
import random

import numpy as np
from jaxtyping import UInt8

from dalle_jax.data.raven import drawing
from dalle_jax.data.raven.panels import Panel
from dalle_jax.data.raven.rules import TRAINED, Rows, Rule
from dalle_jax.errors import UserError

CAPTION = "a sequence of geometric shapes."
LEAST_CODES, LEAST_PIXELS = 2, 16
TRIES = 4_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """Pictures of `image` pixels and `grid` codes a side."""

  image: int
  grid: int

  def __post_init__(self) -> None:
    if self.image < 1 or self.grid < 1 or self.image % self.grid:
      raise UserError(f"got pictures of {self.image} pixels for {self.grid} codes a side, wanted a multiple of it")
    if self.codes < LEAST_CODES or self.pixels < LEAST_PIXELS:
      raise UserError(
        f"pictures of {self.image} pixels and {self.grid}x{self.grid} codes don't divide into panels of a matrix: "
        f"a third of a side is {self.codes} codes and {self.pixels} pixels, "
        f"wanted {LEAST_CODES} and {LEAST_PIXELS} or more"
      )

  @property
  def codes(self) -> int:
    """Of a panel, a side."""
    return self.grid // 3

  @property
  def pixels(self) -> int:
    """Of a panel, a side."""
    return self.codes * self.image // self.grid

  def corner(self, side: int, row: int, column: int) -> tuple[int, int]:
    """The first row and column of codes of a panel, of a matrix of `side` panels a side."""
    first = (self.grid - 3 * self.codes) // 2 + (3 - side) * self.codes
    return first + row * self.codes, first + column * self.codes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
  """A matrix. inverted: white on black, every pixel 255 - x of what it otherwise is."""

  rule: Rule
  rows: Rows
  layout: Layout
  inverted: bool = False
  caption: str = CAPTION

  @property
  def answer(self) -> Panel:
    """What stands in the bottom-right corner."""
    return self.rows[-1][-1]

  @property
  def region(self) -> tuple[int, int, int, int]:
    """The bottom-right panel in codes: top, left, bottom, right."""
    top, left = self.layout.corner(self.rule.side, self.rule.side - 1, self.rule.side - 1)
    return top, left, top + self.layout.codes, left + self.layout.codes

  def pixels(self) -> UInt8[np.ndarray, "S S 3"]:
    """The whole matrix."""
    return self._drawn(self.rule.side**2)

  def unsolved(self) -> UInt8[np.ndarray, "S S 3"]:
    """The matrix with nothing in its bottom-right corner."""
    return self._drawn(self.rule.side**2 - 1)

  def cut(self, picture_SSC: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """Of a picture of this size, the bottom-right panel."""
    scale = self.layout.image // self.layout.grid
    top, left, bottom, right = (scale * each for each in self.region)
    return picture_SSC[top:bottom, left:right]

  def _drawn(self, count: int) -> UInt8[np.ndarray, "S S 3"]:
    picture_SSC = drawing.blank(self.layout.image, self.inverted)
    scale, size = self.layout.image // self.layout.grid, self.layout.pixels
    for number in range(count):
      row, column = divmod(number, self.rule.side)
      top, left = (scale * each for each in self.layout.corner(self.rule.side, row, column))
      piece_ssC = drawing.panel(self.rows[row][column], size, self.inverted)
      picture_SSC[top : top + size, left : left + size] = piece_ssC
    return picture_SSC


def reserved(rows: Rows) -> bool:
  """Whether a matrix of a kind that is trained on is for the probe alone."""
  return hashlib.sha256(repr(rows).encode()).digest()[0] < 64


def draw(kind: type[Rule], rng: random.Random, layout: Layout, *, inverted: bool = False, probe: bool = False) -> Item:
  """A matrix of that kind, one of those for the probe or one of the others."""
  while True:
    rule, rows = kind.draw(rng)
    if kind not in TRAINED or reserved(rows) == probe:
      return Item(rule=rule, rows=rows, layout=layout, inverted=inverted)


def draw_many(kind: type[Rule], count: int, layout: Layout, *, seed: int) -> list[Item]:
  """Different matrices of that kind for the probe; more of them go on from fewer.

  Raises UserError where there are not that many.
  """
  rng = random.Random(f"{seed}/probe/{kind.kind}")
  found: dict[Rows, Item] = {}
  for _ in range(TRIES):
    if len(found) == count:
      break
    item = draw(kind, rng, layout, probe=True)
    found.setdefault(item.rows, item)
  if len(found) < count:
    raise UserError(f"got {count} matrices of {kind.kind} to draw, of which there are only {len(found)}: ask for fewer")
  return list(found.values())
