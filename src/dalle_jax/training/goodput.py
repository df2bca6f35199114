"""Goodput: how much of a stage's time, over all its starts, went into steps that count, and what took the rest.

goodput.json holds a record of each start. Every second from the first start's beginning to the last one's end is in one
of these, by name:

    steps                   updates that the result is made of: what counts
    steps done again        updates that a kill took away, since the last checkpoint
    compiling, waiting for data, saving, drawing, ending
    starting                from the start of a stage to its first step, restoring a checkpoint among it
    down                    between an end and the next start; a process's own imports are in it
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dalle_jax.errors import StorageError

NAME = "goodput.json"
# Seconds between writes: what a kill leaves unwritten counts as down.
WRITE_EVERY_S = 5.0


class Goodput:
  """The record of this start, of a stage that goes on after step `first`. begun: by time.monotonic(), which does not
  jump; keep: whether to write the record.
  """

  def __init__(self, workdir: Path, first: int, *, begun: float, keep: bool):
    self._file, self._keep, self._begun = workdir / NAME, keep, begun
    self._earlier = read(workdir) if keep else []
    wall = time.time() - (time.monotonic() - begun)
    self._start = {"begun": wall, "until": wall, "first": first, "last": first, "seconds": {}}
    self._written = 0.0
    self.add("starting", time.monotonic() - begun)

  @contextlib.contextmanager
  def spent(self, cause: str) -> Iterator[None]:
    """Counts the block's time for a cause."""
    begin = time.monotonic()
    try:
      yield
    finally:
      self.add(cause, time.monotonic() - begin)

  def add(self, cause: str, seconds: float) -> None:
    """Counts so many seconds for a cause."""
    self._start["seconds"][cause] = self._start["seconds"].get(cause, 0.0) + seconds

  def step(self, step: int) -> None:
    """Called after each step. Raises as `write` does."""
    self._start["last"] = step
    if time.monotonic() - self._written > WRITE_EVERY_S:
      self.write()

  def write(self) -> None:
    """Writes the records. Raises StorageError when they can't be written."""
    self._written = time.monotonic()
    self._start["until"] = self._start["begun"] + self._written - self._begun
    if not self._keep:
      return
    scratch = self._file.with_name(f".{NAME}")
    try:
      scratch.write_text(json.dumps([*self._earlier, self._start], indent=1) + "\n")
      scratch.replace(self._file)
    except OSError as error:
      raise StorageError(f"cannot write {self._file} ({error.strerror}); checkpoints are as they were") from error


def read(workdir: Path) -> list[dict[str, Any]]:
  """The records of a stage's starts; none where there is no file that can be read."""
  try:
    found = json.loads((workdir / NAME).read_bytes())
    summary(found)
  except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
    return []
  return found


def summary(starts: list[dict[str, Any]]) -> dict[str, float]:
  """Seconds by cause, `steps` first; together they are all the time there was."""
  seconds = {"steps": 0.0, "steps done again": 0.0}
  for at, start in enumerate(starts):
    for cause, spent in start["seconds"].items():
      seconds[cause] = seconds.get(cause, 0.0) + spent
    stepping = max(0.0, start["until"] - start["begun"] - sum(start["seconds"].values()))
    done = start["last"] - start["first"]
    later = [each["first"] for each in starts[at + 1 :]]
    again = min(done, max(0, start["last"] - min(later, default=start["last"])))
    seconds["steps done again"] += stepping * again / max(done, 1)
    seconds["steps"] += stepping * (1 - again / max(done, 1))
    if later:
      seconds["down"] = seconds.get("down", 0.0) + max(0.0, starts[at + 1]["begun"] - start["until"])
  return seconds
