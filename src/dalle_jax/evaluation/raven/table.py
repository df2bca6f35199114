"""How many matrices were completed right, by set or by kind of rule, inverted or not, with 95 % intervals."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from dalle_jax.data.raven import panels
from dalle_jax.evaluation.intervals import Proportion, wilson
from dalle_jax.evaluation.raven.protocol import Outcome

HEAD = (
  "",
  "colours",
  "trained on",
  "right",
  "of",
  "rate",
  "95 %",
  "dVAE's ceiling",
  "copying left",
  "copying above",
  "guessing",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """Items that belong together. trained: kinds of rule of theirs that the training data shows, and None if unknown.

  ceiling: the dVAE's reconstructions of the true matrices that the judge takes; left, above: items whose answer is
  a copy of that neighbour; chance: the mean of one over the panels to choose from.
  """

  name: str
  inverted: bool
  kinds: tuple[str, ...]
  trained: tuple[str, ...] | None
  right: Proportion
  ceiling: Proportion
  left: int
  above: int
  chance: float


def by_set(outcomes: Sequence[Outcome], trained: Collection[str] | None) -> list[Row]:
  """A row a set and colour. trained: the kinds of rule in the training data, None where that is not known."""
  return _rows(outcomes, trained, lambda each: each.item.rule.letter)


def by_kind(outcomes: Sequence[Outcome], trained: Collection[str] | None) -> list[Row]:
  """A row a kind of rule and colour."""
  return _rows(outcomes, trained, lambda each: f"{each.item.rule.letter} {each.item.rule.kind}")


def by_training(outcomes: Sequence[Outcome], trained: Collection[str]) -> list[Row]:
  """A row for all kinds that training shows and one for all others, by colour."""
  seen = lambda each: "trained kinds" if each.item.rule.kind in trained else "other kinds"  # noqa: E731
  return _rows(outcomes, trained, seen)


def cells(row: Row) -> list[str]:
  """The row's texts, under HEAD."""
  known = "?" if row.trained is None else f"{len(row.trained)} of {len(row.kinds)}"
  return [
    row.name,
    "inverted" if row.inverted else "plain",
    known,
    f"{row.right.right:.0f}",
    str(row.right.of),
    f"{100 * row.right.rate:.0f} %",
    f"{100 * row.right.low:.0f} to {100 * row.right.high:.0f} %",
    f"{100 * row.ceiling.rate:.0f} %",
    f"{100 * row.left / row.right.of:.0f} %",
    f"{100 * row.above / row.right.of:.0f} %",
    f"{100 * row.chance:.1f} %",
  ]


def as_text(rows: Sequence[Row]) -> str:
  """The table for a terminal."""
  lines = [HEAD, *(cells(row) for row in rows)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
  return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def to_json(outcomes: Sequence[Outcome], trained: Collection[str] | None) -> dict[str, Any]:
  """The rows, and a line for each item with what the judge read in its corner."""
  return {
    "by_set": [dataclasses.asdict(row) for row in by_set(outcomes, trained)],
    "by_kind": [dataclasses.asdict(row) for row in by_kind(outcomes, trained)],
    "items": [
      {
        "set": each.item.rule.letter,
        "kind": each.item.rule.kind,
        "rule": repr(each.item.rule),
        "inverted": each.item.inverted,
        "region": list(each.item.region),
        "right": each.verdict.right,
        "distance": round(each.verdict.distance, 4),
        "answer": dataclasses.asdict(each.item.answer),
        "read": dataclasses.asdict(each.verdict.read),
        "ceiling_right": each.ceiling.right,
        "ceiling_distance": round(each.ceiling.distance, 4),
      }
      for each in outcomes
    ],
  }


def _rows(outcomes: Sequence[Outcome], trained: Collection[str] | None, name_of: Callable[[Outcome], str]) -> list[Row]:
  groups: dict[tuple[str, bool], list[Outcome]] = {}
  for each in outcomes:
    groups.setdefault((name_of(each), each.item.inverted), []).append(each)
  names = list(dict.fromkeys(name for name, _ in groups))
  return [
    _row(name, inverted, groups[name, inverted], trained)
    for name in names
    for inverted in (False, True)
    if (name, inverted) in groups
  ]


def _row(name: str, inverted: bool, group: Sequence[Outcome], trained: Collection[str] | None) -> Row:
  kinds = tuple(dict.fromkeys(each.item.rule.kind for each in group))
  return Row(
    name=name,
    inverted=inverted,
    kinds=kinds,
    trained=None if trained is None else tuple(kind for kind in kinds if kind in trained),
    right=wilson(sum(each.verdict.right for each in group), len(group)),
    ceiling=wilson(sum(each.ceiling.right for each in group), len(group)),
    left=sum(each.left_is_right for each in group),
    above=sum(each.above_is_right for each in group),
    chance=sum(1 / len(panels.alphabet(each.item.answer)) for each in group) / len(group),
  )
