"""A directory that appears whole or not at all: it is filled under another name beside its place, then moved there."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dalle_jax.errors import StorageError, UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def scratch_for(out: Path) -> Iterator[Path]:
  """An empty directory beside `out`, gone when the block ends; what an earlier, killed run left in it is removed.

  Raises UserError when `out` holds something, can't be written, or is being written by another process; StorageError
  when the disk fills up in the block.
  """
  scratch = out.parent / f".{out.name}.preparing"
  handle = _locked(scratch, out)
  try:
    for left in scratch.iterdir():
      shutil.rmtree(left) if left.is_dir() else left.unlink()
    yield scratch
  except Exception as error:
    if _is_full(error):
      raise StorageError(f"the disk of {out} is full: nothing was written; make room, or take another --out") from error
    raise
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
    os.close(handle)


def publish(directory: Path, out: Path) -> None:
  """Moves a finished directory to `out`. Raises UserError when something came to stand there in the meantime."""
  try:
    os.rename(directory, out)
  except OSError as error:
    raise UserError(f"cannot write to {out}: {error.strerror}; take another --out") from error


def _locked(scratch: Path, out: Path) -> int:
  """Makes the directory, where nothing stands at `out`, and locks it until this process closes the handle or dies."""
  try:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
      raise UserError(f"{out} holds something already: take another --out, or remove it")
    scratch.mkdir(parents=True, exist_ok=True)
    handle = os.open(scratch, os.O_RDONLY)
  except OSError as error:
    raise UserError(f"cannot write to {out}: {error.strerror}; take another --out") from error
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(handle)
    raise UserError(f"another process is writing {out}: wait for it, or take another --out") from None
  return handle


def _is_full(error: BaseException | None) -> bool:
  """Whether this, or what it came from, is a disk without room; ArrayRecord says so in words only."""
  if error is None:
    return False
  if (isinstance(error, OSError) and error.errno in FULL) or "No space left on device" in str(error):
    return True
  return _is_full(error.__cause__ or error.__context__)
