"""The vocabulary of the published CLIP, from its authors' file or from the two that Hugging Face made of it.

bpe_simple_vocab_16e6.txt.gz   a title, then one merge a line, of which the first 48,894 count
vocab.json and merges.txt      the ids, and the same merges
"""

import dataclasses
import functools
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from dalle_jax.errors import UserError

OPENAI = "bpe_simple_vocab_16e6.txt.gz"
HUGGING_FACE = ("vocab.json", "merges.txt")
WHENCE = "https://github.com/openai/CLIP (clip/bpe_simple_vocab_16e6.txt.gz)"
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MERGES = 49152 - 256 - 2  # of the file, which holds more
MOST_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
  """ids: of every symbol, the two special tokens among them; ranks: of every pair that merges, the first first."""

  ids: Mapping[str, int]
  ranks: Mapping[tuple[str, str], int]


def of(files: Sequence[Path]) -> Vocabulary:
  """The vocabulary of its one file, or of the two by their names, in any order.

  Raises UserError where one is not there, damaged, or another kind of file.
  """
  if len(files) == 1:
    return _openai(files[0])
  symbols, merges = sorted(files, key=lambda path: HUGGING_FACE.index(path.name))
  ranks = _ranks(merges, _text(merges).split("\n")[1:])
  return _checked(symbols, Vocabulary(ids=_ids(symbols), ranks=ranks))


@functools.cache
def byte_symbols() -> tuple[str, ...]:
  """A printable character for each byte: itself where it is one, else one from U+0100 on, in order."""
  printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
  others = iter(range(256, 512))
  return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


def _openai(path: Path) -> Vocabulary:
  ranks = _ranks(path, _text(path).split("\n")[1 : MERGES + 1])
  # The order of the ids: printable bytes, then the others, as such and at the end of a word.
  single = sorted(byte_symbols())
  symbols = [*single, *(symbol + WORD_END for symbol in single), *("".join(pair) for pair in ranks), START, END]
  return _checked(path, Vocabulary(ids={symbol: i for i, symbol in enumerate(symbols)}, ranks=ranks))


def _text(path: Path) -> str:
  try:
    with path.open("rb") as plain:
      packed = plain.read(2) == b"\x1f\x8b"
    with (gzip.open if packed else open)(path, "rb") as file:
      data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
      raise UserError(f"{path} is too long for a vocabulary of CLIP: wanted {OPENAI}, from {WHENCE}")
    return data.decode()
  except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
    raise UserError(f"can't read CLIP's vocabulary {path} ({error}): fetch it again, from {WHENCE}") from error


def _ranks(path: Path, lines: list[str]) -> dict[tuple[str, str], int]:
  pairs = [tuple(line.split()) for line in lines if line.strip()]
  for pair in pairs:
    if len(pair) != 2:
      raise UserError(
        f"{path} has the line {' '.join(pair)[:40]!r}, which is no merge of two: wanted {OPENAI}, {WHENCE}"
      )
  return {(first, second): rank for rank, (first, second) in enumerate(pairs)}


def _ids(path: Path) -> dict[str, int]:
  try:
    ids = json.loads(_text(path))
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path} is no JSON ({error}): fetch it again") from error
  if not isinstance(ids, dict) or {*map(type, ids.values())} != {int} or {*ids.values()} != {*range(len(ids))}:
    raise UserError(f"{path} does not give each symbol of a vocabulary an id of its own, from 0 on: fetch it again")
  return ids


def _checked(path: Path, vocabulary: Vocabulary) -> Vocabulary:
  single = byte_symbols()
  wanted = [START, END, *single, *(symbol + WORD_END for symbol in single), *map("".join, vocabulary.ranks)]
  missing = [symbol for symbol in wanted if symbol not in vocabulary.ids]
  if missing or not vocabulary.ranks:
    what = f"lacks {missing[0]!r}" if missing else "holds no merges"
    raise UserError(f"{path} {what}, so it is no vocabulary of CLIP: wanted {OPENAI}, from {WHENCE}")
  return vocabulary
