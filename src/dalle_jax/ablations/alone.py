"""One process at a time makes what several share."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
  """Waits until no other process makes what is to be at `place`; the system frees it however this one ends."""
  place.parent.mkdir(parents=True, exist_ok=True)
  with (place.parent / f".{place.name}.lock").open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
