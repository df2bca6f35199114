"""Captions that stand in files beside pictures.

    a.txt            a caption a line, of a.png, a.jpg, ... in the same folder
    captions.tsv     a first line that names the columns `file` and `caption`; a file may have several lines
    captions.jsonl   {"file": "a.png", "caption": "..."} or {"file": "a.png", "captions": ["...", ...]}, one a line

The files that a table names stand in or below the table's own folder.
"""

import json
import os.path
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from dalle_jax.data.source import Dropped
from dalle_jax.errors import UserError

TABLES = ("captions.tsv", "captions.jsonl")


def read(path: Path, names: Sequence[str], pictures: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[Dropped]]:
  """Captions by picture, and what has none or can't be read; all names as they stand below the folder `path`.

  Raises UserError for a table without the columns it needs.
  """
  known = frozenset(pictures)
  by_stem: dict[str, list[str]] = {}
  for picture in pictures:
    by_stem.setdefault(_stem(picture), []).append(picture)
  captions: dict[str, list[str]] = {}
  dropped: list[Dropped] = []
  for name in names:
    file = PurePosixPath(name)
    if file.name in TABLES:
      entries = _table(path, name)
    elif file.suffix.lower() == ".txt":
      entries = _lines(path, name, by_stem.get(_stem(name), []))
    else:
      continue
    for entry in entries:
      if isinstance(entry, Dropped):
        dropped.append(entry)
      elif entry[0] in known:
        captions.setdefault(entry[0], []).extend(entry[1])
      else:
        dropped.append(Dropped(key=entry[0], reason="caption without picture", detail=f"in {name}"))
  return {picture: tuple(dict.fromkeys(texts)) for picture, texts in captions.items()}, dropped


Entry = tuple[str, list[str]] | Dropped


def _stem(name: str) -> str:
  return os.path.splitext(name)[0]


def _text(path: Path, name: str) -> str | Dropped:
  try:
    return (path / name).read_bytes().decode("utf-8-sig")
  except UnicodeDecodeError as error:
    return Dropped(key=name, reason="caption file is not UTF-8", detail=str(error)[:120])
  except OSError as error:
    return Dropped(key=name, reason="unreadable caption file", detail=error.strerror or "")


def _lines(path: Path, name: str, pictures: list[str]) -> Iterator[Entry]:
  if not pictures:
    yield Dropped(key=name, reason="caption without picture")
    return
  text = _text(path, name)
  if isinstance(text, Dropped):
    yield text
    return
  lines = [line for line in text.splitlines() if line.strip()] or [""]
  for picture in pictures:
    yield picture, lines


def _table(path: Path, name: str) -> Iterator[Entry]:
  text = _text(path, name)
  if isinstance(text, Dropped):
    yield text
    return
  rows = _tsv_rows(path / name, text) if name.endswith(".tsv") else _jsonl_rows(text)
  folder = os.path.dirname(name)
  for number, row in rows:
    if row is None:
      yield Dropped(key=f"{name}:{number}", reason="unreadable caption line")
    else:
      yield os.path.normpath(os.path.join(folder, row[0])), row[1]


def _tsv_rows(file: Path, text: str) -> Iterator[tuple[int, tuple[str, list[str]] | None]]:
  head, *lines = text.split("\n")
  columns = [column.strip().lower() for column in head.split("\t")]
  column = next((each for each in ("caption", "captions") if each in columns), None)
  if "file" not in columns or column is None:
    raise UserError(f"the first line of {file} is {head[:60]!r}: wanted the names of columns, `file` and `caption`")
  at, text_at = columns.index("file"), columns.index(column)
  for number, line in enumerate(lines, 2):
    cells = line.rstrip("\r").split("\t")
    if line.strip():
      yield number, (cells[at].strip(), [cells[text_at]]) if len(cells) > max(at, text_at) else None


def _jsonl_rows(text: str) -> Iterator[tuple[int, tuple[str, list[str]] | None]]:
  for number, line in enumerate(text.split("\n"), 1):
    if line.strip():
      yield number, _fields(line)


def _fields(line: str) -> tuple[str, list[str]] | None:
  try:
    row = json.loads(line)
    texts = row["captions"] if "captions" in row else [row["caption"]]
    valid = isinstance(row["file"], str) and isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    return (row["file"], texts) if valid else None
  except (ValueError, KeyError, TypeError, RecursionError):
    return None
