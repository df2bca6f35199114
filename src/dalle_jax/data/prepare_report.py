"""What a prepared data set holds, in numbers: counts, sizes, caption lengths, what was left out and why."""

import array
import collections
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from dalle_jax.data.checks import Checked
from dalle_jax.data.source import Dropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
  """How a number varies over pictures or captions."""

  least: float
  median: float
  p90: float
  p99: float
  most: float
  mean: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What `dalle data prepare` wrote. width, height: pixels; characters, words: of a caption; captions: of a picture.

  splits: examples of each; dropped: left out, by reason; filters: those applied, in words, or "".
  """

  name: str
  splits: dict[str, int]
  width: Spread
  height: Spread
  captions: Spread
  characters: Spread
  words: Spread
  dropped: dict[str, int]
  filters: str = ""


class Tally:
  """Counts what passes; `lines` gets a line of JSON for each example that is left out."""

  def __init__(self, lines: TextIO):
    self.lines = lines
    self.splits: collections.Counter[str] = collections.Counter()
    self.dropped: collections.Counter[str] = collections.Counter()
    self._numbers = {name: array.array("L") for name in ("width", "height", "captions", "characters", "words")}

  def keep(self, split: str, example: Checked) -> None:
    """Counts an example that is written."""
    self.splits[split] += 1
    width, height = example.size
    for name, number in (("width", width), ("height", height), ("captions", len(example.captions))):
      self._numbers[name].append(number)
    self._numbers["characters"].extend(len(caption) for caption in example.captions)
    self._numbers["words"].extend(len(caption.split()) for caption in example.captions)

  def drop(self, split: str, example: Dropped) -> None:
    """Counts an example that is left out."""
    self.dropped[example.reason] += 1
    self.lines.write(json.dumps({"split": split} | dataclasses.asdict(example), ensure_ascii=False) + "\n")

  def report(self, name: str, filters: str) -> Report:
    """The counts so far. There must be at least one example."""
    spreads = {key: spread(numbers) for key, numbers in self._numbers.items()}
    dropped = dict(self.dropped.most_common())
    return Report(name=name, splits=dict(self.splits), dropped=dropped, filters=filters, **spreads)


def spread(numbers: Sequence[int] | np.ndarray) -> Spread:
  """How these numbers vary. There must be at least one."""
  least, median, p90, p99, most = np.percentile(np.asarray(numbers), [0, 50, 90, 99, 100]).tolist()
  return Spread(least=least, median=median, p90=p90, p99=p99, most=most, mean=float(np.mean(numbers)))


def to_json(report: Report) -> str:
  """The text of report.json."""
  return json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Report:
  """The report of the text of report.json. Raises KeyError, TypeError or ValueError for what is none."""
  fields: dict[str, Any] = json.loads(text)
  spreads = {f.name: Spread(**fields[f.name]) for f in dataclasses.fields(Report) if f.type is Spread}
  return Report(**fields | spreads)


def as_text(report: Report) -> str:
  """The report for people, a line each."""
  lines = [
    f"{report.name}: " + ", ".join(f"{split} {count:,}" for split, count in report.splits.items()),
    f"  size      {_range(report.width)} x {_range(report.height)} pixels",
    f"  captions  {_range(report.captions)} a picture",
    f"  lengths   {_range(report.words)} words, {_range(report.characters)} characters",
  ]
  if report.filters:
    lines.append(f"  filters   {report.filters}")
  total = sum(report.dropped.values())
  reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped.items())
  return "\n".join([*lines, f"  left out  {total:,}" + (f": {reasons}" if total else "")])


def _range(spread: Spread) -> str:
  if spread.least == spread.most:
    return f"{spread.most:g}"
  return f"{spread.least:g} to {spread.most:g} (median {spread.median:g})"
