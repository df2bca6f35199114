"""SIGTERM as a request: the loop sees it after the step at hand, saves, and leaves.

Of several processes any one may be asked: all hear of it, by JAX's preemption service, and stop after the same step.
"""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

from jax.experimental import multihost_utils

from dalle_jax import processes

# What JAX's service counts by: steps of all stages, which begin at 1 each.
_asked_before = itertools.count(1)


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
  """A function that tells, after each step, whether to stop now. Only for the main thread, as Python's signals are."""
  if processes.several():
    yield lambda: multihost_utils.reached_preemption_sync_point(next(_asked_before))
    return
  asked = threading.Event()
  before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
  try:
    yield asked.is_set
  finally:
    signal.signal(signal.SIGTERM, before)
