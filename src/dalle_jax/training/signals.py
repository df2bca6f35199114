"""SIGTERM as a request: the loop sees it after the step at hand, saves, and leaves."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def sigterm() -> Iterator[threading.Event]:
  """An event that SIGTERM sets, while the block runs. Only for the main thread, as Python's signals are."""
  asked = threading.Event()
  before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
  try:
    yield asked
  finally:
    signal.signal(signal.SIGTERM, before)
