"""Where a run stands, on the terminal: a bar with rate, time left and loss; plain lines where there is no terminal."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dalle_jax import processes

PLAIN_EVERY = 10.0


class StepProgress:
  """Shows steps of a run named `name`; nothing is printed more than ten times a second, or 10 s without a terminal.

  unit: what a step is called. Of several processes the first one alone shows them.
  """

  def __init__(
    self, name: str, steps: int, first: int, *, unit: str = "steps", clock: Callable[[], float] = time.monotonic
  ):
    self._name, self._steps, self._first, self._unit, self._clock = name, steps, first, unit, clock
    self._begin = self._shown = clock()
    self._bar: Progress | None = None
    self._shows = processes.index() == 0
    console = Console(file=sys.stderr)
    if console.is_terminal and self._shows:
      columns = (
        "{task.description}",
        "{task.completed}/{task.total}",
        "{task.fields[rate]}",
        "{task.fields[loss]}",
      )
      bar, *rest = (TextColumn(c) for c in columns)
      self._bar = Progress(bar, BarColumn(), *rest, TimeElapsedColumn(), "left", TimeRemainingColumn(), console=console)
      self._task = self._bar.add_task(name, total=steps, completed=first, rate="", loss="")
      self._bar.start()

  def start_clock(self) -> None:
    """What went before, such as compiling, counts neither for the rate nor for the time left."""
    self._begin = self._clock()

  def say(self, text: str) -> None:
    """A line of its own, above the bar."""
    if self._bar is not None:
      self._bar.console.print(f"{self._name}: {text}", highlight=False)
    elif self._shows:
      print(f"{self._name}: {text}", file=sys.stderr, flush=True)

  def show(self, table: str) -> None:
    """A table, above the bar."""
    if self._bar is not None:
      self._bar.console.print(table, highlight=False, end="")
    elif self._shows:
      print(table, file=sys.stderr, end="", flush=True)

  def update(self, step: int, loss: float | None = None, more: str = "") -> None:
    """Called when a step is done and its loss, where there is one, is known; more: what else there is to tell."""
    now = self._clock()
    if now - self._shown < (0.1 if self._bar is not None else PLAIN_EVERY) and step != self._steps:
      return
    self._shown = now
    rate = (step - self._first) / max(now - self._begin, 1e-9)
    speed, lost = f"{rate:,.1f} {self._unit}/s", "" if loss is None else f"loss {loss:.4f}"
    if self._bar is not None:
      self._bar.update(self._task, completed=step, rate="  ".join(filter(None, (speed, more))), loss=lost)
      return
    left = int((self._steps - step) / max(rate, 1e-9))
    at = f"{self._unit.removesuffix('s')} {step}/{self._steps}"
    self.say("  ".join(part for part in (at, lost, speed, more, f"{left // 60}:{left % 60:02d} left") if part))

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.stop()
