"""What is known of a run while it trains: the last step's numbers, read late, its losses and where its time goes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from dalle_jax.errors import StorageError, TrainingUnhealthy, UserError
from dalle_jax.training import watchdog
from dalle_jax.training.goodput import Goodput
from dalle_jax.training.metrics import MetricsLog, NoLog
from dalle_jax.training.progress import StepProgress
from dalle_jax.training.step import Metrics, State
from dalle_jax.training.throughput import Throughput

Batch = Mapping[str, np.ndarray]


class Tally:
  """Metrics not yet read, losses since the last save, times, and where all are written.

  offending: the steps whose updates were left out when training health stopped the run.
  """

  def __init__(
    self,
    name: str,
    steps: int,
    first: int,
    max_skipped: int,
    log_every: int,
    log: MetricsLog | NoLog,
    throughput: Throughput,
    dog: watchdog.Watchdog,
  ):
    self.log, self.throughput, self.dog = log, throughput, dog
    self.goodput: Goodput  # begins with the first step
    self.name, self.steps, self.first, self.max_skipped, self.log_every = name, steps, first, max_skipped, log_every
    self.progress = StepProgress(name, steps, first)
    self.begin = time.monotonic()
    self.compile_s = 0.0
    self.offending: range = range(0)
    self._losses: list[float] = []
    self._unread: tuple[int, Metrics] | None = None
    self._marked, self._marked_step, self._waited = self.begin, first, 0.0

  def next_batch(self, data: Iterator[Batch]) -> Batch:
    begin = time.monotonic()
    batch = next(data, None)
    waited = time.monotonic() - begin
    self._waited += waited
    self.goodput.add("waiting for data", waited)
    if batch is None:
      raise UserError(f"{self.name}: the data ended before step {self.steps}: it must repeat for ever")
    return batch

  def dispatch(self, step_fn: Callable, *args: Any) -> tuple[State, Metrics]:
    begin = time.monotonic()
    result = step_fn(*args)
    if not self.compile_s:
      self.compile_s = time.monotonic() - begin
      self._marked = time.monotonic()
      self.progress.start_clock()
      self.goodput.add("compiling", self.compile_s)
    return result

  @contextlib.contextmanager
  def now(self, doing: str) -> Iterator[None]:
    """What the step's time is spent with in the block."""
    self.dog.now(doing)
    with self.goodput.spent(doing):
      yield

  def read(self, step: int, metrics: Metrics) -> None:
    """Reads the metrics of the step before, and keeps these for later."""
    self.catch_up()
    self._unread = (step, metrics)

  def catch_up(self) -> None:
    """Reads what was kept. Raises TrainingUnhealthy when too many updates in a row were skipped."""
    if self._unread is None:
      return
    (step, metrics), self._unread = self._unread, None
    skipped, loss = jax.device_get((metrics["skipped"], metrics["loss"]))
    if step % self.log_every == 0 or step in (1, self.steps):
      self.log.write(step, {k: float(v) for k, v in jax.device_get(metrics).items()}, self._timing(step))
    self.progress.update(step, float(loss), self.throughput.text())
    self.goodput.step(step)
    if not skipped:
      self._losses.append(float(loss))
    if skipped >= self.max_skipped:
      self.offending = range(step - int(skipped) + 1, step + 1)
      raise TrainingUnhealthy(
        f"{self.name}: {int(skipped)} updates in a row up to step {step} were left out, not finite or spikes; the last "
        "checkpoint is kept: lower the learning rate, look at the data, or go on without those batches with --rollback"
      )

  def loss_since_save(self, least: int) -> float | None:
    """The mean loss of the updates since this was last asked for, but for those left out.

    None where there are fewer than `least`: the mean of few is lucky sooner than low.
    """
    losses, self._losses = self._losses, []
    return sum(losses) / len(losses) if losses and len(losses) >= least else None

  def report(self, step: int, shown: Mapping[str, float | np.ndarray] | None) -> None:
    """Writes what a hook returned."""
    shown = shown or {}
    pictures = {k: v for k, v in shown.items() if isinstance(v, np.ndarray) and v.ndim == 3}
    numbers = {k: float(v) for k, v in shown.items() if k not in pictures}
    if numbers:
      self.log.write(step, numbers)
    if pictures:
      self.log.show(step, pictures)

  def close(self) -> None:
    self.progress.close()
    self.log.close()
    with contextlib.suppress(StorageError):  # why it ends is what has to be said
      self.goodput.write()

  def _timing(self, step: int) -> dict[str, float]:
    now = time.monotonic()
    past, done = max(now - self._marked, 1e-9), step - self._marked_step
    timing = {
      "wall_s": round(now - self.begin, 3),
      "compile_s": round(self.compile_s, 3),
      "steps_per_s": round(done / past, 3),
      "data_wait": round(self._waited / past, 4),
    } | self.throughput.of(done / past)
    self._marked, self._marked_step, self._waited = now, step, 0.0
    return timing
