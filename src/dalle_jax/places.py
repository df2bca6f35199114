"""Places of files: on this machine's disks, or in a bucket of Google's as gs://BUCKET/NAME, by the same calls.

What pathlib and epath have in common is called on them directly; what differs is here.
"""

import functools
import hashlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from etils import epath

from dalle_jax.errors import UserError

Place = Path | epath.Path

BUCKET = "gs://"
OTHER_STORES = ("s3:/", "az:/", "hf:/", "gcs:/", "gs:/", "http:/", "https:/")
READ_AT_ONCE = 16 << 20


def at(name: str | Place) -> Place:
  """The place of that name. Raises UserError for a store that is not known, and for a bucket that can't be read."""
  text = os.fspath(name)
  if text.startswith(BUCKET):
    bucket, _, name = text.removeprefix(BUCKET).strip("/").partition("/")
    if not name:
      raise UserError(f"got {text}, wanted a name in a bucket, as in {BUCKET}BUCKET/NAME")
    _require_gcsfs(text)
    _reach(bucket)
    return epath.Path(f"{BUCKET}{bucket}/{name}")
  if not text or text.startswith(OTHER_STORES):
    raise UserError(f"got {text or 'an empty name'}, wanted a directory, or gs://BUCKET/NAME")
  return Path(text)


def in_bucket(place: Place) -> bool:
  """Whether the place is in a bucket."""
  return not isinstance(place, Path)


def inside(directory: Place) -> list[Place]:
  """What is in a directory; nothing where there is none. Raises OSError where it can't be read."""
  try:
    return sorted(directory.iterdir())
  except FileNotFoundError:
    return []


def files(directory: Place) -> dict[str, int]:
  """Every file below a directory, hidden ones too: its name from there on, and its bytes. Raises OSError."""
  if in_bucket(directory):
    return {name: about["size"] for name, about in details(directory).items()}
  found = (Path(where) / name for where, _, names in os.walk(directory, onerror=_raise) for name in names)
  return {str(file.relative_to(directory)): file.stat().st_size for file in sorted(found)}


def details(directory: epath.Path) -> dict[str, dict]:
  """Every file below a directory of a bucket: its name from there on, and what the bucket tells of it."""
  root = str(directory).removeprefix(BUCKET).rstrip("/")
  found = _bucket_files().find(root, detail=True)
  return {name.removeprefix(f"{root}/"): found[name] for name in sorted(found) if not name.endswith("/")}


def written(directory: Place) -> float:
  """When a directory was written, in seconds since 1970."""
  if in_bucket(directory):
    return max((about["mtime"].timestamp() for about in details(directory).values()), default=0.0)
  return directory.stat().st_mtime


def write(file: Place, data: bytes) -> None:
  """Writes so that a reader, and a kill, finds the old bytes or the new ones."""
  if in_bucket(file):
    file.write_bytes(data)  # an object appears whole
    return
  scratch = file.with_name(f".{file.name}.{os.getpid()}")
  with scratch.open("wb") as stream:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())
  scratch.replace(file)


def upload(file: Path, to: epath.Path) -> None:
  """Copies a file of this machine into a bucket, where it appears whole."""
  _bucket_files().put_file(str(file), str(to))


def download(file: epath.Path, to: Path) -> None:
  """Copies a file of a bucket to this machine."""
  _bucket_files().get_file(str(file), str(to))


def remove(directory: Place) -> None:
  """Removes a directory and all that is in it."""
  if in_bucket(directory):
    directory.rmtree()
  else:
    shutil.rmtree(directory)


def sha256(file: Place) -> str:
  """SHA-256 of a file's bytes."""
  sha = hashlib.sha256()
  with file.open("rb") as stream:
    while part := stream.read(READ_AT_ONCE):
      sha.update(part)
  return sha.hexdigest()


def _bucket_files() -> Any:
  import fsspec

  return fsspec.filesystem("gs")


def _require_gcsfs(name: str) -> None:
  if importlib.util.find_spec("gcsfs") is None:
    raise UserError(f"{name} wants the package gcsfs, which is not installed: pip install 'dalle-jax[gcs]'")
  import fsspec

  # Others write there too, Orbax among them: what was there a moment ago is not to be believed.
  fsspec.config.conf.setdefault("gs", {})["use_listings_cache"] = False


@functools.cache
def _reach(bucket: str) -> None:
  """Raises UserError where the bucket's objects can't be listed."""
  try:
    _bucket_files().call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)
  except Exception as error:
    why = "there is none" if isinstance(error, FileNotFoundError) else reason(error)
    said = f"cannot read the bucket {BUCKET}{bucket} ({why}): look at its name, and at your rights to it"
    raise UserError(f"{said} (`gcloud auth application-default login`)") from error


def reason(error: Exception) -> str:
  """What an error says, on one line and not at length."""
  return " ".join(str(error).split())[:100] or type(error).__name__


def _raise(error: OSError) -> None:
  raise error
