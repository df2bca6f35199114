"""One job a workdir: an flock, which the system frees however the process dies; in a bucket a lease, which runs out.

Process 0 holds it for all of a job.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dalle_jax import places, processes
from dalle_jax.errors import UserError
from dalle_jax.places import Place
from dalle_jax.training import lease


@contextlib.contextmanager
def held(workdir: Place) -> Iterator[None]:
  """Holds the workdir's lock, making the directory if need be.

  Raises UserError when another process holds it, or when the directory cannot be written.
  """
  with contextlib.ExitStack() as stack:
    of_its_kind = lease.held if places.in_bucket(workdir) else _flock
    processes.by_first(lambda: stack.enter_context(of_its_kind(workdir)))
    yield


@contextlib.contextmanager
def _flock(workdir: Path) -> Iterator[None]:
  with _locked(workdir):
    yield


def _locked(workdir: Path) -> IO[str]:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / ".lock").open("a+")
  except OSError as error:
    raise UserError(f"cannot write to {workdir} ({error.strerror}): take another --workdir") from error
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    owner = file.read().strip() or "unknown"
    file.close()
    raise UserError(f"{workdir} is in use by process {owner}: wait for it, or take another --workdir") from None
  file.truncate(0)
  file.write(f"{os.getpid()}\n")
  file.flush()
  return file
