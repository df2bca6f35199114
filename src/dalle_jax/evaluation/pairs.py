"""Pictures and captions that belong together: a person's folder and list, or the first examples of a prepared split.

A list of captions has one on each line, for the pictures in the order of their names; where every line holds a tab it
is a table, of which each line names a picture of the folder and one caption.

H W pixels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from dalle_jax.data.checks import suffixes
from dalle_jax.errors import UserError
from dalle_jax.evaluation.examples import Prepared
from dalle_jax.sampling.prompts import read_picture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
  """Each picture and each caption once, and which belong together: a pair is a picture's number and a caption's.

  picture: reads the pixels of the picture of that number.
  """

  pictures: tuple[str, ...]
  captions: tuple[str, ...]
  pairs: tuple[tuple[int, int], ...]
  picture: Callable[[int], UInt8[np.ndarray, "H W 3"]]

  def belongs(self) -> Bool[np.ndarray, "P C"]:
    """Which captions belong to which pictures."""
    right_PC = np.zeros((len(self.pictures), len(self.captions)), bool)
    right_PC[tuple(np.array(self.pairs).T)] = True
    return right_PC


def from_files(pictures: str, captions: str) -> Pairs:
  """The pairs of a folder (or one picture) and a file of captions. Pictures that no line of a table names are left out.

  Raises UserError where either can't be read, is empty, or they do not fit together.
  """
  folder, names = pictures_in(Path(pictures))
  lines = _lines(captions)
  bare = [number for number, line in enumerate(lines, 1) if "\t" not in line]
  if bare and len(bare) < len(lines):
    raise UserError(f"line {bare[0]} of {captions} has no tab as others have, wanted name, tab, caption")
  if not bare:
    rows = _table(lines, captions, names, folder)
  elif len(lines) != len(names):
    raise UserError(
      f"got {_count(len(lines), 'caption')} in {captions} for {_count(len(names), 'picture')} in {pictures}, wanted "
      "one on each line for each picture, or lines of name, tab, caption"
    )
  else:
    rows = list(zip(names, lines))
  named = tuple(dict.fromkeys(name for name, _ in rows))
  return _pairs(rows, named, lambda number: read_picture(str(folder / named[number])))


def from_data(prepared: Prepared, split: str, limit: int) -> Pairs:
  """The first pictures of a split of prepared data, each with its first caption."""
  source = prepared.source(split)
  examples = range(min(limit, len(source)))
  captions = {number: source[number]["captions"] for number in examples}
  rows = [(f"{split}-{number:05d}", captions[number][0]) for number in examples if captions[number]]
  numbers = [number for number in examples if captions[number]]
  if not rows:
    raise UserError(f"the split {split} has no picture with a caption among its first {limit}")
  return _pairs(rows, tuple(name for name, _ in rows), lambda number: source[numbers[number]]["image"])


def _pairs(rows: Sequence[tuple[str, str]], named: tuple[str, ...], picture: Callable[[int], np.ndarray]) -> Pairs:
  captions = tuple(dict.fromkeys(caption for _, caption in rows))
  number = {name: i for i, name in enumerate(named)}, {caption: i for i, caption in enumerate(captions)}
  pairs = dict.fromkeys((number[0][name], number[1][caption]) for name, caption in rows)
  return Pairs(pictures=named, captions=captions, pairs=tuple(pairs), picture=picture)


def pictures_in(path: Path) -> tuple[Path, list[str]]:
  """A folder and the names of the pictures in and below it, in their order; of one picture its folder and its name.

  Raises UserError where there is none.
  """
  if path.is_file():
    return path.parent, [path.name]
  if not path.is_dir():
    raise UserError(f"no picture at {path}: wanted a folder of pictures, or one picture")
  known = suffixes()
  files = (file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
  names = sorted(name.as_posix() for name in files if not any(part.startswith(".") for part in name.parts))
  if not names:
    raise UserError(f"{path} holds no picture: wanted a folder of pictures, or one picture")
  return path, names


def _lines(file: str) -> list[str]:
  try:
    text = Path(file).read_text(encoding="utf-8-sig")
  except OSError as error:
    raise UserError(f"cannot read the captions {file}: {error.strerror}") from error
  except UnicodeDecodeError as error:
    raise UserError(f"cannot read the captions {file}: byte {error.start} is no UTF-8; save it as UTF-8") from error
  lines = [line.strip(" \r") for line in text.rstrip(" \r\n").split("\n")]
  if not any(lines):
    raise UserError(f"{file} holds no caption, wanted one on each line")
  if "" in lines:
    raise UserError(f"line {lines.index('') + 1} of {file} is empty, wanted a caption on each line")
  return lines


def _table(lines: list[str], file: str, names: list[str], folder: Path) -> list[tuple[str, str]]:
  rows = [tuple(part.strip() for part in line.split("\t", 1)) for line in lines]
  if rows[0] == ("file", "caption") and len(rows) > 1:
    rows = rows[1:]
  known = set(names)
  for name, caption in rows:
    if name not in known:
      raise UserError(f"{file} names {name[:80]!r}, which is no picture of {folder}: names are as they stand there")
    if not caption:
      raise UserError(f"{file} has no caption for {name}, wanted one after the tab")
  return [(name, caption) for name, caption in rows]


def _count(number: int, what: str) -> str:
  return f"{number} {what}" + "s" * (number != 1)
