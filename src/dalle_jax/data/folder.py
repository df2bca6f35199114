"""A folder of pictures with captions as a source of `dalle data prepare`.

    a.png  a.txt                            a caption a line, beside its picture
    captions.tsv  captions.jsonl            file and caption: columns of the one, fields of the other; see caption_files
    train/  valid/  test/                   splits, if there are any of these; else one picture in twenty is held out

Sub-folders are read too, and every suffix that Pillow knows. Names are told as they stand below the folder.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dalle_jax.data import caption_files, splitting
from dalle_jax.data.checks import suffixes
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import UserError

SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
WANTED = "wanted a.png with a.txt (a caption a line), or captions.tsv or .jsonl with file and caption"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
  """A picture file, by its name below the folder, and its captions."""

  key: str
  captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
  """What was found in a folder, by split; pictures are read when they are asked for."""

  path: Path
  found: Mapping[str, tuple[Captioned | Dropped, ...]]

  @property
  def name(self) -> str:
    return self.path.resolve().name

  @property
  def splits(self) -> tuple[str, ...]:
    return tuple(self.found)

  def count(self, split: str) -> int:
    return len(self.found[split])

  def examples(self, split: str) -> Iterator[Raw | Dropped]:
    for each in self.found[split]:
      yield each if isinstance(each, Dropped) else _read(self.path, each)


def open_folder(path: str | Path) -> Folder:
  """The pictures and captions of a folder. Raises UserError when it is missing, empty, or has no captioned picture."""
  path = Path(path)
  if not path.is_dir():
    raise UserError(f"no folder at {path}: wanted a folder of pictures with captions")
  names = sorted(_files(path))
  known = suffixes()
  pictures = [name for name in names if Path(name).suffix.lower() in known]
  if not pictures:
    _complain(path, names)
  captions, dropped = caption_files.read(path, names, pictures)
  if not captions:
    raise UserError(f"the {len(pictures)} pictures of {path} have no captions: {WANTED}")
  dropped += [Dropped(key=name, reason="no caption") for name in pictures if name not in captions]
  captioned = [Captioned(key=name, captions=captions[name]) for name in pictures if name in captions]
  return Folder(path=path, found=_by_split(captioned, dropped))


def _complain(path: Path, names: list[str]) -> None:
  if not names:
    raise UserError(f"{path} is empty: {WANTED}")
  if any(name.endswith((".tar", ".tar.gz", ".tgz")) for name in names):
    raise UserError(f"{path} holds tar files and no picture: name them, `dalle data prepare {path}/*.tar --out DIR`")
  if {"features.json", "dataset_info.json"} <= set(names):
    raise UserError(f"{path} is a prepared data set already: `dalle data inspect {path}` shows it")
  raise UserError(f"none of the {len(names)} files in {path} is a picture: {WANTED}")


def _files(path: Path) -> Iterator[str]:
  """The names below `path` of its files, links followed, hidden ones and what is no plain file left out."""
  seen: set[str] = set()
  for folder, below, files in os.walk(path, followlinks=True):
    real = os.path.realpath(folder)
    if real in seen:
      below.clear()
      continue
    seen.add(real)
    below[:] = sorted(name for name in below if not name.startswith("."))
    for name in files:
      file = Path(folder, name)
      if not name.startswith(".") and file.is_file():
        yield file.relative_to(path).as_posix()


def _by_split(captioned: list[Captioned], dropped: list[Dropped]) -> dict[str, tuple[Captioned | Dropped, ...]]:
  said = lambda key: SPLITS.get(key.split("/")[0].lower(), "train") if "/" in key else "train"  # noqa: E731
  if any("/" in each.key and each.key.split("/")[0].lower() in SPLITS for each in captioned):
    split, dropped_split = said, said
  else:
    split, dropped_split = splitting.threshold(each.key for each in captioned).split, lambda key: "train"
  groups: dict[str, list[Captioned | Dropped]] = {name: [] for name in ("train", "valid", "test")}
  for each in captioned:
    groups[split(each.key)].append(each)
  for each in dropped:
    groups[dropped_split(each.key)].append(each)
  return {name: tuple(group) for name, group in groups.items() if group}


def _read(path: Path, each: Captioned) -> Raw | Dropped:
  try:
    return Raw(key=each.key, image=(path / each.key).read_bytes(), captions=each.captions)
  except OSError as error:
    return Dropped(key=each.key, reason="unreadable picture", detail=error.strerror or "")
