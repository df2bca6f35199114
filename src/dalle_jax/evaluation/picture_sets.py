"""Pictures by name: a split of a prepared data set, or a folder; each has a key, and all of them a digest.

    DIR           a prepared data set, of which a split is taken; DIR:SPLIT that one
    FOLDER        pictures in a folder and below it, by their names there

H W pixels.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dalle_jax import manifest, places
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation.pairs import pictures_in
from dalle_jax.sampling.prompts import read_picture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PictureSet:
  """count pictures; key: of the picture of a number its name, which no other of them has; picture: its pixels.

  place: the directory; split: None of a folder; digest: that of the prepared data, or of a folder's names and bytes.
  """

  place: str
  split: str | None
  count: int
  digest: str
  key: Callable[[int], str]
  picture: Callable[[int], UInt8[np.ndarray, "H W 3"]]

  def told(self) -> dict[str, Any]:
    """What it is, for a file that says what was compared."""
    return {"place": self.place, "split": self.split, "pictures": self.count, "digest": self.digest}

  def __str__(self) -> str:
    return self.place if self.split is None else f"{self.place}, split {self.split}"


def opened(name: str, choose: Callable[[Prepared], str]) -> PictureSet:
  """The pictures of that name. choose: the split of a prepared data set for which none is named.

  Raises UserError where there is nothing, no picture, or no such split; StorageError where the data set is damaged.
  """
  directory, split = _parted(name)
  if _is_prepared(directory):
    prepared = open_prepared(directory)
    return _of_split(directory, prepared, choose(prepared) if split is None else split)
  if split is not None:
    raise UserError(f"got {name}, and {directory} is a folder of pictures, which has no splits: leave out :{split}")
  return _of_folder(directory)


def _parted(name: str) -> tuple[str, str | None]:
  """A directory's name and a split's: what stands behind the last colon, unless all of it is a directory."""
  before, colon, after = name.rpartition(":")
  if not colon or after.startswith("//") or "/" in after or places.at(name).exists():
    return name, None
  return before, after


def _is_prepared(directory: str) -> bool:
  place = places.at(directory)
  if not place.exists():
    raise UserError(f"no pictures at {directory}: wanted a prepared data set, as DIR or DIR:SPLIT, or a folder")
  return (place / "features.json").exists() or (place / manifest.NAME).exists() or places.in_bucket(place)


def _of_split(directory: str, prepared: Prepared, split: str) -> PictureSet:
  source = prepared.source(split)
  read = {"key": source.key, "picture": lambda number: source[number]["image"]}
  return PictureSet(place=directory, split=split, count=len(source), digest=prepared.digest(), **read)


def _of_folder(directory: str) -> PictureSet:
  path, names = pictures_in(Path(directory))
  sha = hashlib.sha256()
  for name in names:
    try:
      sha.update(f"{name} {places.sha256(path / name)}\n".encode())
    except OSError as error:
      raise UserError(f"cannot read the picture {path / name}: {error.strerror or error}") from error
  read = {"key": names.__getitem__, "picture": lambda number: read_picture(str(path / names[number]))}
  return PictureSet(place=directory, split=None, count=len(names), digest=sha.hexdigest(), **read)
