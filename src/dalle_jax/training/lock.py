"""One job a workdir: an flock, which the system frees however the process dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from dalle_jax.errors import UserError


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
  """Holds the workdir's lock, making the directory if need be.

  Raises UserError when another process holds it, or when the directory cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / ".lock").open("a+")
  except OSError as error:
    raise UserError(f"cannot write to {workdir} ({error.strerror}): take another --workdir") from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      owner = file.read().strip() or "unknown"
      raise UserError(f"{workdir} is in use by process {owner}: wait for it, or take another --workdir") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    yield
