"""The manifest of a checkpoint or a data set: size and SHA-256 of each of its files, and which arrays they hold.

It is written last, so a directory without a whole manifest was never finished; and it notices what Orbax does not:
flipped bits, which are restored as weights without a word.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from dalle_jax import places
from dalle_jax.places import Place

NAME = "manifest.json"
VERSION = 1


def write(
  directory: Place,
  arrays: dict[str, dict[str, str]],
  about: Mapping[str, float] = MappingProxyType({}),
  leave_out: Collection[str] = (),
) -> None:
  """Hashes every file of the directory and writes the manifest beside them, atomically.

  arrays: item -> path of the array -> its dtype and shape, as in float32[3,4]; about: numbers that are
  kept with them; leave_out: files that may change.
  """
  sizes = places.files(directory)
  names = [name for name in sizes if name.split("/")[-1] not in (NAME, *leave_out)]
  files = {name: {"size": sizes[name], "sha256": places.sha256(directory / name)} for name in names}
  body = {"version": VERSION, "arrays": arrays, "files": files} | dict(about)
  places.write(directory / NAME, json.dumps(body | {"digest": _digest(body)}, indent=1).encode())


def read(directory: Place) -> dict[str, Any] | None:
  """The manifest, or None where there is none that is whole."""
  try:
    data = json.loads((directory / NAME).read_bytes())
    digest = data.pop("digest")
  except (OSError, ValueError, KeyError, AttributeError, TypeError):
    return None
  return data if digest == _digest(data) and data.get("version") == VERSION else None


def problem(directory: Place, *, contents: bool) -> str | None:
  """What is wrong with the directory, in a few words, or None. Without `contents`, presence and sizes alone."""
  manifest = read(directory)
  if manifest is None:
    return "no whole manifest" if (directory / NAME).exists() else "no manifest: it was not finished"
  try:
    sizes = places.files(directory)
  except OSError as error:
    return f"it can't be read: {error.strerror}"
  for name, wanted in manifest["files"].items():
    if name not in sizes:
      return f"{name} is missing"
    if sizes[name] != wanted["size"]:
      return f"{name} has {sizes[name]} bytes, wanted {wanted['size']}"
    try:
      if contents and places.sha256(directory / name) != wanted["sha256"]:
        return f"{name} is damaged: its SHA-256 differs"
    except OSError as error:
      return f"{name} can't be read: {error.strerror}"
  return None


def _digest(body: Any) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
