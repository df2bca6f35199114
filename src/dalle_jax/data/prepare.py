"""`dalle data prepare`: a source's pictures and captions, decoded, checked and written as a prepared data set.

Nothing half-written is ever left under `out`: everything is written beside it, and the finished directory moved there.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from dalle_jax.data import intact, prepare_report
from dalle_jax.data.checks import Checked, checked
from dalle_jax.data.filters import Filters
from dalle_jax.data.prepare_report import Report, Tally
from dalle_jax.data.scratch import publish, scratch_for
from dalle_jax.data.source import Dropped, Source
from dalle_jax.data.writing import write
from dalle_jax.errors import UserError


@runtime_checkable
class Progress(Protocol):
  """Told what is being done, how many of it are done, and of how many."""

  def __call__(self, what: str, done: int, total: int) -> None: ...


@runtime_checkable
class Counted(Protocol):
  """A source that knows beforehand how many examples a split will yield, counting those it leaves out."""

  def count(self, split: str) -> int: ...


def prepare(
  source: Source,
  out: str | Path,
  *,
  filters: Filters | None = None,
  shards: int | None = None,
  progress: Progress = lambda what, done, total: None,
) -> Report:
  """Writes the source's examples to the directory `out` and returns what was written; splits without any are left out.

  shards: files of each split; chosen by size if None. Raises UserError when `out` holds something or can't be written,
  or when no example is left; StorageError when the disk is full. Either way nothing is left behind.
  """
  out = Path(out).resolve()
  with scratch_for(out) as scratch:
    with (scratch / "dropped.jsonl").open("w", encoding="utf-8") as lines:
      tally = Tally(lines)
      kept = {split: _kept(source, split, tally, filters, progress) for split in source.splits}
      found = {split: rest for split, examples in kept.items() if (rest := _unless_empty(examples)) is not None}
      if not found:
        raise UserError(_nothing(source.name, tally))
      written = write(source.name, found, scratch, shards)
    report = tally.report(source.name, filters.describe() if filters else "")
    (written / "report.json").write_text(prepare_report.to_json(report), encoding="utf-8")
    os.rename(scratch / "dropped.jsonl", written / "dropped.jsonl")
    intact.seal(written)
    publish(written, out)
  return report


def _kept(source: Source, split: str, tally: Tally, filters: Filters | None, progress: Progress) -> Iterator[Checked]:
  total, done = source.count(split) if isinstance(source, Counted) else 0, 0
  seen: set[str] = set()
  for done, found in enumerate(source.examples(split), 1):
    result = found if isinstance(found, Dropped) else _judged(checked(found), seen, filters)
    if isinstance(result, Dropped):
      tally.drop(split, result)
    else:
      seen.add(result.key)
      tally.keep(split, result)
      yield result
      if len(seen) == 1:  # the first of each split is asked for before any is written
        progress(f"preparing {split}", 0, total)
    progress(f"preparing {split}", done, max(done, total))
  progress(f"preparing {split}", done, done)


def _judged(found: Checked | Dropped, seen: set[str], filters: Filters | None) -> Checked | Dropped:
  if isinstance(found, Dropped):
    return found
  if found.key in seen:
    return Dropped(key=found.key, reason="second of its name")
  return filters.judged(found) if filters else found


def _unless_empty(examples: Iterator[Checked]) -> Iterable[Checked] | None:
  first = next(examples, None)
  return None if first is None else itertools.chain([first], examples)


def _nothing(name: str, tally: Tally) -> str:
  reasons = ", ".join(f"{reason} ({count})" for reason, count in tally.dropped.most_common(4))
  return f"no picture with a caption is left of {name[:60]}" + (f"; left out: {reasons}" if reasons else "")
