"""Ends a process whose step does not: a peer that is alive but waits elsewhere is noticed by nothing else."""

import contextlib
import faulthandler
import sys
import threading
import time
from collections.abc import Iterator

from dalle_jax import processes
from dalle_jax.errors import PeerLost

# Programs are compiled in the first step.
FIRST = 4
# Seconds in which the last words are said, read or not.
LAST_WORDS_S = 2.0


class Watchdog:
  """What a run does now, and since when."""

  def __init__(self, name: str, limit: float):
    self.name, self.limit = name, limit
    self._first = True
    self._state = (0, "starting", time.monotonic())

  def step(self, step: int, doing: str) -> None:
    """Called when a step begins: the clock starts anew."""
    self._first = self._state[0] == 0 or (self._first and self._state[0] == step)
    self._state = (step, doing, time.monotonic())

  def now(self, doing: str) -> None:
    """Called within a step, when it comes to wait for something else."""
    step, _, since = self._state
    self._state = (step, doing, since)

  def overdue(self, now: float) -> str | None:
    """What to say of a step that takes too long, or None."""
    step, doing, since = self._state
    limit = self.limit * (FIRST if self._first else 1)
    if now - since <= limit:
      return None
    return (
      f"dalle: {processes.name()}{self.name}: step {step} took more than {limit:g} s ({doing}): ending, "
      "the last checkpoint is kept; start the same command again, or give it more time with --processes.step_limit"
    )


@contextlib.contextmanager
def watching(name: str, limit: float) -> Iterator[Watchdog]:
  """A watchdog of steps of at most `limit` seconds. It prints process, step and stacks, and ends the process, 86."""
  dog, done = Watchdog(name, limit), threading.Event()

  def watch() -> None:
    while not done.wait(min(1.0, limit / 10)):
      said = dog.overdue(time.monotonic())
      if said:
        end = threading.Timer(LAST_WORDS_S, processes.leave, [PeerLost.exit_code])
        end.daemon = True
        end.start()
        faulthandler.dump_traceback(file=sys.__stderr__)
        processes.say(said)
        # With process 0 the others end, who have as much to say now.
        if processes.several() and processes.index() == 0:
          end.join()
        processes.leave(PeerLost.exit_code)

  thread = threading.Thread(target=watch, name="watchdog", daemon=True)
  thread.start()
  try:
    yield dog
  finally:
    done.set()
