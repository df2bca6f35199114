"""The kinds of rule of sets B to E of Raven's matrices (paper 8.2), each drawing and checking matrices of its kind.

    B  2x2   identity      the panels of a line are the same
             turning       the second panel of each line is the first one, turned or reflected
    C  3x3   progression   one attribute changes step by step along the rows, another along the columns
             addition      the third panel of each line is the first two, laid over each other
    D  3x3   permutation   each row and each column has the same three of everything
    E  3x3   boolean       the third panel of each line has the strokes of both, of either, or of just one of the first

A rule is what is particular to one matrix, so that `holds` leaves one panel of the alphabet for the last place.
"""

import abc
import dataclasses
import enum
import random
from typing import ClassVar

from dalle_jax.data.raven import panels
from dalle_jax.data.raven.panels import Glyph, Panel, Strokes

Rows = tuple[tuple[Panel, ...], ...]


class Rule(abc.ABC):
  """kind: what people call it; letter: the set; side: panels a side."""

  kind: ClassVar[str]
  letter: ClassVar[str]
  side: ClassVar[int]

  @classmethod
  @abc.abstractmethod
  def draw(cls, rng: random.Random) -> "tuple[Rule, Rows]":
    """A rule and a matrix for which it holds."""

  @abc.abstractmethod
  def holds(self, rows: Rows) -> bool:
    """Whether the whole matrix follows the rule."""


class Along(enum.Enum):
  """Which lines of a matrix a rule is about."""

  ROWS = "rows"
  COLUMNS = "columns"

  def of(self, rows: Rows) -> Rows:
    """The matrix's lines; of lines, the matrix again."""
    return rows if self is Along.ROWS else tuple(zip(*rows))


class Operation(enum.Enum):
  """What of two sets of strokes is in the third."""

  AND = "and"
  OR = "or"
  XOR = "xor"

  def of(self, first: int, second: int) -> int:
    """Sets of strokes as bits."""
    return {Operation.AND: first & second, Operation.OR: first | second, Operation.XOR: first ^ second}[self]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity(Rule):
  """The panels of a line are the same, and other lines have others."""

  kind: ClassVar[str] = "identity"
  letter: ClassVar[str] = "B"
  side: ClassVar[int] = 2
  along: Along

  @classmethod
  def draw(cls, rng: random.Random) -> "tuple[Identity, Rows]":
    """See `Rule`."""
    family = rng.choice((panels.plain_glyphs(), panels.turning_glyphs(), panels.all_strokes()))
    rule = cls(along=rng.choice(list(Along)))
    return rule, rule.along.of(tuple((each, each) for each in rng.sample(family, 2)))

  def holds(self, rows: Rows) -> bool:
    """See `Rule`."""
    return all(len(set(line)) == 1 for line in self.along.of(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turning(Rule):
  """The second panel of each line is the first one after a turn or a reflection; other lines have other outlines."""

  kind: ClassVar[str] = "turning"
  letter: ClassVar[str] = "B"
  side: ClassVar[int] = 2
  along: Along
  turn: int

  @classmethod
  def draw(cls, rng: random.Random) -> "tuple[Turning, Rows]":
    """See `Rule`."""
    rule = cls(along=rng.choice(list(Along)), turn=rng.randrange(1, len(panels.TURNS)))
    fill = rng.choice((panels.OPEN, panels.SOLID))
    firsts = [
      Glyph(outline=outline, fill=fill, turn=rng.randrange(len(panels.TURNS)))
      for outline in rng.sample(list(panels.TURNING), 2)
    ]
    return rule, rule.along.of(tuple((first, panels.turned(first, rule.turn)) for first in firsts))

  def holds(self, rows: Rows) -> bool:
    """See `Rule`."""
    return all(
      isinstance(first, Glyph) and second == panels.turned(first, self.turn) for first, second in self.along.of(rows)
    )


PAIRS = tuple(
  pair
  for one, other in (("size", "fill"), ("x", "y"), ("x", "fill"), ("y", "fill"))
  for pair in ((one, other), (other, one))
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progression(Rule):
  """One attribute goes up or down along the rows, another along the columns; all else stays.

  across, down: fields of a glyph; back_across, back_down: whether they go down instead of up.
  """

  kind: ClassVar[str] = "progression"
  letter: ClassVar[str] = "C"
  side: ClassVar[int] = 3
  across: str
  down: str
  back_across: bool
  back_down: bool

  @classmethod
  def draw(cls, rng: random.Random) -> "tuple[Progression, Rows]":
    """See `Rule`."""
    across, down = rng.choice(PAIRS)
    rule = cls(across=across, down=down, back_across=rng.random() < 0.5, back_down=rng.random() < 0.5)
    moves = "size" not in (across, down)
    plain = Glyph(
      outline=rng.choice(list(panels.PLAIN)),
      size=panels.SMALL if moves else panels.LARGE,
      fill=rng.choice(list(panels.FILLS)),
    )
    first = dataclasses.replace(plain, **{across: 2 * rule.back_across, down: 2 * rule.back_down})
    return rule, tuple(tuple(rule._after(first, row, column) for column in range(3)) for row in range(3))

  def holds(self, rows: Rows) -> bool:
    """See `Rule`."""
    first = rows[0][0]
    return isinstance(first, Glyph) and all(
      rows[row][column] == self._after(first, row, column) for row in range(3) for column in range(3)
    )

  def _after(self, first: Glyph, row: int, column: int) -> Glyph:
    across = getattr(first, self.across) + (-column if self.back_across else column)
    down = getattr(first, self.down) + (-row if self.back_down else row)
    return dataclasses.replace(first, **{self.across: across, self.down: down})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition(Rule):
  """The third panel of each line has the strokes of the first two, which have none in common."""

  kind: ClassVar[str] = "addition"
  letter: ClassVar[str] = "C"
  side: ClassVar[int] = 3
  along: Along

  @classmethod
  def draw(cls, rng: random.Random) -> "tuple[Addition, Rows]":
    """See `Rule`."""
    rule = cls(along=rng.choice(list(Along)))
    lines: dict[tuple[int, int], Rows] = {}
    while len(lines) < 3:
      order = rng.sample(range(panels.STROKES), panels.STROKES)
      few, more = rng.randint(1, 3), rng.randint(1, 3)
      first, second = _bits(order[:few]), _bits(order[few : few + more])
      lines[first, second] = tuple(Strokes(parts=parts) for parts in (first, second, first | second))
    return rule, rule.along.of(tuple(lines.values()))

  def holds(self, rows: Rows) -> bool:
    """See `Rule`."""
    return all(
      not first.parts & second.parts and third.parts == first.parts | second.parts
      for first, second, third in self.along.of(rows)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permutation(Rule):
  """Each row and each column has the same three panels, or the same three outlines and the same three fills."""

  kind: ClassVar[str] = "permutation"
  letter: ClassVar[str] = "D"
  side: ClassVar[int] = 3

  @classmethod
  def draw(cls, rng: random.Random) -> "tuple[Permutation, Rows]":
    """See `Rule`."""
    lean = rng.choice((1, 2))  # which of the two Latin squares of order 3, up to the names of its symbols
    places = [[(column + lean * row) % 3 for column in range(3)] for row in range(3)]
    if rng.random() < 0.5:
      three = [Strokes(parts=parts) for parts in rng.sample(range(1, 2**panels.STROKES), 3)]
      return cls(), tuple(tuple(three[i] for i in row) for row in places)
    outlines, size = rng.sample(list(panels.PLAIN), 3), rng.choice(panels.SIZES)
    x, y = (rng.choice(panels.PLACES) if size == panels.SMALL else panels.MIDDLE for _ in "xy")
    fills = rng.choice((rng.sample(list(panels.FILLS), 3), [rng.choice(list(panels.FILLS))] * 3))
    others = [[(column - lean * row) % 3 for column in range(3)] for row in range(3)]
    return cls(), tuple(
      tuple(Glyph(outline=outlines[i], size=size, fill=fills[j], x=x, y=y) for i, j in zip(row, other))
      for row, other in zip(places, others)
    )

  def holds(self, rows: Rows) -> bool:
    """See `Rule`."""
    if len({type(each) for row in rows for each in row}) > 1:
      return False
    attributes = [field.name for field in dataclasses.fields(rows[0][0])]
    counted = lambda line: [sorted(getattr(each, name) for each in line) for name in attributes]  # noqa: E731
    return all(counted(line) == counted(rows[0]) for line in (*rows, *zip(*rows)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boolean(Rule):
  """The third panel of each line has the strokes that the operation takes of the first two, which share some."""

  kind: ClassVar[str] = "boolean"
  letter: ClassVar[str] = "E"
  side: ClassVar[int] = 3
  along: Along
  operation: Operation

  @classmethod
  def draw(cls, rng: random.Random) -> "tuple[Boolean, Rows]":
    """See `Rule`."""
    rule = cls(along=rng.choice(list(Along)), operation=rng.choice(list(Operation)))
    lines: dict[tuple[int, int], Rows] = {}
    while len(lines) < 3:
      order = rng.sample(range(panels.STROKES), panels.STROKES)
      both, one, other = rng.randint(1, 2), rng.randint(1, 2), rng.randint(0, 2)
      first = _bits(order[: both + one])
      second = _bits(order[:both] + order[both + one : both + one + other])
      first, second = rng.sample((first, second), 2)
      made = rule.operation.of(first, second)
      lines[first, second] = tuple(Strokes(parts=parts) for parts in (first, second, made))
    return rule, rule.along.of(tuple(lines.values()))

  def holds(self, rows: Rows) -> bool:
    """See `Rule`."""
    return all(
      third.parts == self.operation.of(first.parts, second.parts) for first, second, third in self.along.of(rows)
    )


KINDS: tuple[type[Rule], ...] = (Identity, Turning, Progression, Addition, Permutation, Boolean)
SETS = tuple(sorted({kind.letter for kind in KINDS}))
# What the data set `raven` shows; the other half is left for the probe.
TRAINED: tuple[type[Rule], ...] = (Identity, Addition, Permutation)


def solve(rule: Rule, rows: Rows) -> list[Panel]:
  """The panels of the last one's alphabet with which the matrix follows the rule, whatever stands in the last place."""
  *upper, (*before, last) = rows
  return [each for each in panels.alphabet(last) if rule.holds((*upper, (*before, each)))]


def _bits(strokes: list[int]) -> int:
  return sum(1 << i for i in strokes)
