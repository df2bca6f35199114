"""Where a command stands: one bar a task on a terminal, one line a task elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  ProgressColumn,
  Task,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)
from rich.text import Text


@runtime_checkable
class Tell(Protocol):
  """Told what is being done, how many of it are done, and of how many."""

  def __call__(self, what: str, done: int, total: int) -> None: ...


class _Rate(ProgressColumn):
  """How many are done in a second: pictures, where pictures are counted."""

  def render(self, task: Task) -> Text:
    speed = task.finished_speed or task.speed
    return Text("" if speed is None else f"{speed:.3g}/s")


@contextmanager
def shown() -> Iterator[Tell]:
  """Shows progress on standard error while the block runs."""
  console = Console(file=sys.stderr)
  if not console.is_terminal:
    yield _line
    return
  columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
  with Progress(*columns, "left", TimeRemainingColumn(), console=console) as bars:
    tasks: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
      if what not in tasks:
        tasks[what] = bars.add_task(what, total=total)
      bars.update(tasks[what], completed=done, total=total)

    yield tell


def _line(what: str, done: int, total: int) -> None:
  if done == 0:
    print(f"{what}: {total}", file=sys.stderr, flush=True)
