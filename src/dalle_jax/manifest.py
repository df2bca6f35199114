"""The manifest of a checkpoint or a data set: size and SHA-256 of each of its files, and which arrays they hold.

It is written last, so a directory without a whole manifest was never finished; and it notices what Orbax does not:
flipped bits, which are restored as weights without a word.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

NAME = "manifest.json"
VERSION = 1


def write(
  directory: Path,
  arrays: dict[str, dict[str, str]],
  about: Mapping[str, float] = MappingProxyType({}),
  leave_out: Collection[str] = (),
) -> None:
  """Hashes every file of the directory and writes the manifest beside them, atomically.

  arrays: item -> path of the array -> its dtype and shape, as in float32[3,4]; about: numbers that are
  kept with them; leave_out: files that may change.
  """
  found = (p for p in directory.rglob("*") if p.is_file() and p.name not in (NAME, *leave_out))
  names = sorted(str(p.relative_to(directory)) for p in found)
  files = {name: {"size": (directory / name).stat().st_size, "sha256": _sha256(directory / name)} for name in names}
  body = {"version": VERSION, "arrays": arrays, "files": files} | dict(about)
  scratch = directory / f".{NAME}"
  with scratch.open("w") as file:
    json.dump(body | {"digest": _digest(body)}, file, indent=1)
    file.flush()
    os.fsync(file.fileno())
  scratch.replace(directory / NAME)


def read(directory: Path) -> dict[str, Any] | None:
  """The manifest, or None where there is none that is whole."""
  try:
    data = json.loads((directory / NAME).read_bytes())
    digest = data.pop("digest")
  except (OSError, ValueError, KeyError, AttributeError, TypeError):
    return None
  return data if digest == _digest(data) and data.get("version") == VERSION else None


def problem(directory: Path, *, contents: bool) -> str | None:
  """What is wrong with the directory, in a few words, or None. Without `contents`, presence and sizes alone."""
  manifest = read(directory)
  if manifest is None:
    return "no whole manifest" if (directory / NAME).exists() else "no manifest: it was not finished"
  for name, wanted in manifest["files"].items():
    file = directory / name
    try:
      if not file.is_file():
        return f"{name} is missing"
      if file.stat().st_size != wanted["size"]:
        return f"{name} has {file.stat().st_size} bytes, wanted {wanted['size']}"
      if contents and _sha256(file) != wanted["sha256"]:
        return f"{name} is damaged: its SHA-256 differs"
    except OSError as error:
      return f"{name} can't be read: {error.strerror}"
  return None


def _sha256(file: Path) -> str:
  with file.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(body: Any) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
