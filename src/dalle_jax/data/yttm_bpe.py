"""YouTokenToMe's vocabularies (`bpe.model`), which ruDALL-E's captions are read with.

A file of whole numbers: how many characters and merges there are; code point and id of each character; left, right and
joined id of each merge, in the order learnt; the ids of unknown, pad, begin and end.

Words are what spaces part, each with a mark before it that stands for the space. A run of characters of a word that the
file does not have is one unknown.

T text positions.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dalle_jax.data.merging import merged
from dalle_jax.errors import UserError

SPACE = "\u2581"
WORD = re.compile(rf"[^ \t\n\v\f\r{SPACE}]+")


class YttmBpe:
  """Captions to ids by such a vocabulary."""

  def __init__(self, path: str | Path):
    """Reads the file. Raises UserError where it is missing or no such vocabulary."""
    numbers = _numbers(Path(path))
    characters, merges = numbers[:2]
    points, rules, special = np.split(np.array(numbers[2:]), np.cumsum([2 * characters, 3 * merges]))
    self._id = {chr(point): i for point, i in points.reshape(-1, 2).tolist()}
    self._rules = {(x, y): (rank, z) for rank, (x, y, z) in enumerate(rules.reshape(-1, 3).tolist())}
    self.unknown, self.pad, self.begin, self.end = special.tolist()
    if SPACE not in self._id:
      raise UserError(f"{path} has no mark for spaces: it is no vocabulary of YouTokenToMe's")
    self._spelt = {i: character for character, i in self._id.items()}
    for x, y, z in rules.reshape(-1, 3).tolist():
      if x not in self._spelt or y not in self._spelt:
        raise UserError(f"{path} joins the ids {x} and {y}, which it does not have: the file is damaged")
      self._spelt[z] = self._spelt[x] + self._spelt[y]
    self._word = functools.lru_cache(maxsize=65536)(self._ids_of)

  @property
  def size(self) -> int:
    """How many ids there are, the special ones among them."""
    return len(self._spelt) + sum(i >= 0 for i in (self.unknown, self.pad, self.begin, self.end))

  def encode(self, text: str) -> list[int]:
    """All ids of a text, as it is; without begin and end."""
    return [i for word in WORD.findall(text) for i in self._word(word)]

  def ids(self, text: str, length: int = 128) -> Int[np.ndarray, " T"]:
    """As ruDALL-E reads a caption: in lower case, with begin and end, cut to the length or filled with pads."""
    found = [self.begin, *self.encode(text.lower().strip()), self.end][:length]
    ids_T = np.full(length, self.pad, np.int32)
    ids_T[: len(found)] = found
    return ids_T

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids; unknown, pad, begin and end are left out."""
    return "".join(self._spelt.get(int(i), "") for i in ids).replace(SPACE, " ").removeprefix(" ")

  def _ids_of(self, word: str) -> tuple[int, ...]:
    parts, unknown = [self._id[SPACE]], -2
    for character in word:
      i = self._id.get(character, unknown)
      if i != unknown or parts[-1] != unknown:
        parts.append(i)
    return tuple(self.unknown if i == unknown else i for i in merged(parts, self._rules))


def _numbers(path: Path) -> list[int]:
  """All numbers of the file, as many as its first two say. Raises UserError where they are not."""
  wrong = UserError(f"{path} is no vocabulary of YouTokenToMe's, or was cut off: wanted its bpe.model")
  try:
    numbers = [int(word) for word in path.read_bytes().split()]
  except ValueError as error:
    raise wrong from error
  except OSError as error:
    raise UserError(f"cannot read {path} ({error.strerror}): wanted YouTokenToMe's bpe.model") from error
  if len(numbers) < 2 or min(numbers[:2]) < 0 or len(numbers) != 6 + 2 * numbers[0] + 3 * numbers[1]:
    raise wrong
  points = numbers[2 : 2 + 2 * numbers[0] : 2]
  if not all(0 <= point < 0x110000 for point in points) or min(numbers[:-4]) < 0:
    raise wrong
  return numbers
