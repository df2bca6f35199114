"""Hugging Face's CharBPETokenizer (vocab.json, merges.txt), which minDALL-E's captions are read with.

BERT's rules part a text: controls go, spaces, punctuation marks and Chinese characters stand by themselves; then all is
lower case. A word's letters, the last with "</w>", merge in the order of the file; a letter that is not in it is an
unknown. What is a punctuation mark or a control is asked of Python's tables of Unicode, which are newer than theirs.

T text positions.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dalle_jax.data.merging import merged
from dalle_jax.errors import UserError

UNKNOWN, PAD, WORD_END = "[UNK]", "[PAD]", "</w>"
SPECIAL = re.compile(f"({re.escape(UNKNOWN)}|{re.escape(PAD)})")
CHINESE = (
  *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF)),
  *((0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)


class CharBpe:
  """Captions to ids by such a vocabulary."""

  def __init__(self, vocabulary: str | Path, merges: str | Path):
    """Reads both files. Raises UserError where one is missing or not what it should be."""
    self._id = _vocabulary(Path(vocabulary))
    self._rules: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, (left, right) in enumerate(_merges(Path(merges))):
      if unknown := [token for token in (left, right, left + right) if token not in self._id]:
        raise UserError(f"{merges} joins {left!r} and {right!r}, but {vocabulary} has no {unknown[0]!r}")
      self._rules[self._id[left], self._id[right]] = (rank, self._id[left + right])
    if UNKNOWN not in self._id:
      raise UserError(f"{vocabulary} has no {UNKNOWN}: wanted minDALL-E's bpe-16k-vocab.json")
    self._id.setdefault(PAD, len(self._id))
    self.unknown, self.pad = self._id[UNKNOWN], self._id[PAD]
    self._token = {i: token for token, i in self._id.items()}
    self._spelt = functools.lru_cache(maxsize=65536)(self._ids_of)

  @property
  def size(self) -> int:
    """How many ids there are, the pad's among them."""
    return len(self._id)

  def encode(self, text: str) -> list[int]:
    """All ids of a text; the names of the two special tokens stand for them."""
    found: list[int] = []
    for part in SPECIAL.split(text):
      special = SPECIAL.fullmatch(part)
      found += [self._id[part]] if special else (i for word in words(part) for i in self._spelt(word))
    return found

  def ids(self, text: str, length: int = 64) -> Int[np.ndarray, " T"]:
    """As minDALL-E reads a caption: cut to the length, or filled with pads."""
    found = self.encode(text)[:length]
    ids_T = np.full(length, self.pad, np.int32)
    ids_T[: len(found)] = found
    return ids_T

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, without unknowns and pads, a space after every word and mark."""
    tokens = [self._token.get(int(i), "") for i in ids if i not in (self.unknown, self.pad)]
    return "".join(tokens).replace(WORD_END, " ").removesuffix(" ")

  def _ids_of(self, word: str) -> tuple[int, ...]:
    letters = [*word[:-1], word[-1] + WORD_END]
    return tuple(merged([self._id.get(letter, self.unknown) for letter in letters], self._rules))


def words(text: str) -> Iterator[str]:
  """The words and marks of a text in lower case, as BERT parts them."""
  clean = "".join(_cleaned(character) for character in text)
  for word in "".join(character.lower() for character in clean).split():
    run = ""
    for character in word:
      if not _is_mark(character):
        run += character
        continue
      if run:
        yield run
      yield character
      run = ""
    if run:
      yield run


def _cleaned(character: str) -> str:
  if character in "\t\n\r":
    return " "
  if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs"):
    return ""
  if character.isspace():
    return " "
  return f" {character} " if any(first <= ord(character) <= last for first, last in CHINESE) else character


def _is_mark(character: str) -> bool:
  ascii_mark = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
  return ascii_mark or unicodedata.category(character)[0] == "P"


def _vocabulary(path: Path) -> dict[str, int]:
  try:
    found = json.loads(_text(path))
  except ValueError as error:
    raise UserError(f"{path} is no JSON: wanted tokens and their ids") from error
  if not isinstance(found, dict) or sorted(map(str, found.values())) != sorted(map(str, range(len(found)))):
    raise UserError(f"{path} is no vocabulary: wanted tokens and their ids, 0, 1, 2 ...")
  return found


def _merges(path: Path) -> list[tuple[str, str]]:
  lines = [line for line in _text(path).split("\n") if line and not line.startswith("#version")]
  pairs = [tuple(line.removesuffix("\r").split(" ")) for line in lines]
  if odd := [line for line, pair in zip(lines, pairs) if len(pair) != 2]:
    raise UserError(f"{path} has the line {odd[0][:40]!r}: wanted two tokens and a space between them")
  return [(left, right) for left, right in pairs]


def _text(path: Path) -> str:
  try:
    return path.read_bytes().decode()
  except UnicodeDecodeError as error:
    raise UserError(f"{path} is no text: wanted a vocabulary's vocab.json and merges.txt") from error
  except OSError as error:
    raise UserError(
      f"cannot read {path} ({error.strerror}): wanted a vocabulary's vocab.json and merges.txt"
    ) from error
