"""A trace of some steps, for XProf or TensorBoard's profile page."""

from pathlib import Path
from typing import Any

import jax


class Trace:
  """Traces the steps of a range into a folder; nothing without a range, or where the run begins after its start."""

  def __init__(self, steps: tuple[int, int] | None, folder: Path):
    self._steps, self._folder, self._running = steps, folder, False

  def before(self, step: int) -> None:
    """Called before each step is dispatched."""
    if self._steps and step == self._steps[0]:
      jax.profiler.start_trace(self._folder)
      self._running = True

  def after(self, step: int, results: Any) -> None:
    """Called after each step was dispatched, with what it will give."""
    if self._running and step == self._steps[1]:
      jax.block_until_ready(results)
      self.close()

  def close(self) -> None:
    """Ends the trace, if one is running."""
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
