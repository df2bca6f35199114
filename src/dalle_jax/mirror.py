"""This machine's copy of what a bucket holds: a run's workdir but for its checkpoints, or a data set.

A run works in files that it appends to and renames, which a bucket has not. So it works in its copy, and what changed
there goes to the bucket before each checkpoint is called good. The bucket is what counts: a copy is made equal to it
when a run begins, on whatever machine.
"""

import base64
import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from etils import epath

from dalle_jax import places
from dalle_jax.errors import StorageError, UserError

log = logging.getLogger(__name__)

# Where copies lie.
HOME = "DALLE_CACHE"
CHECKPOINTS = "checkpoints"


class Mirror:
  """A directory of this machine and the place that it is a copy of. `use` keeps copies for different ends apart."""

  def __init__(self, place: epath.Path, use: str):
    self.place = place
    self.local = _home() / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}" / use
    self._known: dict[str, tuple[int, int]] = {}

  def pull(self, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Makes the wanted files equal to the bucket's, removing those that it has not.

    Raises UserError when the bucket can't be read, StorageError when the copy's disk is full.
    """
    try:
      there = {name: about for name, about in places.details(self.place).items() if _copied(name) and wanted(name)}
      self.local.mkdir(parents=True, exist_ok=True)
      for name, about in there.items():
        if not _same(self.local / name, about):
          self._fetch(name)
    except Exception as error:
      if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise StorageError(f"no space left for the copy of {self.place} in {self.local}: make room") from error
      raise UserError(
        f"cannot read {self.place} ({places.reason(error)}): look at its name and your rights to it"
      ) from error
    for name in self._here():
      if wanted(name) and name not in there:
        (self.local / name).unlink()
    self._known = self._here()

  def push(self) -> None:
    """Copies what changed since the last pull or push into the bucket. Raises StorageError when it can't be written."""
    here = self._here()
    try:
      for name, state in here.items():
        if self._known.get(name) != state:
          with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            places.upload(self.local / name, self.place / name)
          self._known[name] = state
      for name in [name for name in self._known if name not in here]:
        (self.place / name).unlink(missing_ok=True)
        del self._known[name]
    except Exception as error:
      raise StorageError(f"cannot write {self.place} ({places.reason(error)}); checkpoints are as they were") from error

  def _fetch(self, name: str) -> None:
    file = self.local / name
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    places.download(self.place / name, scratch)
    scratch.replace(file)

  def _here(self) -> dict[str, tuple[int, int]]:
    """Size and time of each file of the copy."""
    found = {}
    for where, _, names in os.walk(self.local):
      for file in (Path(where) / name for name in names):
        if _copied(name := str(file.relative_to(self.local))):
          with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            about = file.stat()
            found[name] = (about.st_size, about.st_mtime_ns)
    return found


def copied(place: epath.Path) -> Path:
  """A data set of a bucket, copied to this machine unless it is here. Raises UserError when it can't be read."""
  mirror = Mirror(place, "data")
  log.warning("%s is read from its copy, %s", place, mirror.local)
  mirror.pull()
  return mirror.local


def _home() -> Path:
  return Path(os.environ.get(HOME) or Path.home() / ".cache" / "dalle_jax")


def _copied(name: str) -> bool:
  """Checkpoints go to the bucket directly; names with a dot in front are locks and files being written."""
  *folders, last = name.split("/")
  return CHECKPOINTS not in folders and not last.startswith(".")


def _same(file: Path, about: dict) -> bool:
  """Whether a file holds what the bucket says; of an object put together from parts it tells no MD5."""
  if not file.is_file() or file.stat().st_size != about["size"] or "md5Hash" not in about:
    return False
  with file.open("rb") as stream:
    return base64.b64encode(hashlib.file_digest(stream, "md5").digest()).decode() == about["md5Hash"]
