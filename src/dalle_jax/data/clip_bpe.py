"""Captions as the published CLIP reads them: byte-level byte-pair encoding (Radford et al. 2021) by a vocabulary file.

The text is mended, HTML's entities are read, spaces are squeezed, all is lower case; contractions, runs of letters,
single digits and runs of other marks are parted; and each part's bytes are merged in the order of the file.

The published code mends with the package ftfy, which is not needed here: curly quotes, ligatures, wide forms, control
characters and combining accents are mended as it does. What it does beside is not: text that was decoded wrongly
("schÃ¶n" for "schön") and terminals' escape sequences are read as they stand.

N texts, T positions.
"""

import functools
import html
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from dalle_jax.data.clip_vocabulary import END, START, WORD_END, Vocabulary, byte_symbols
from dalle_jax.errors import UserError

LENGTH = 77  # of every published CLIP
LIGATURES = "Ĳĳŉ" + "".join(map(chr, [*range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB07)]))
CONTROLS = [*range(9), 0xB, *range(0xE, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)]


class ClipTokenizer:
  """Captions to ids by a vocabulary."""

  def __init__(self, vocabulary: Vocabulary):
    self.vocabulary = vocabulary
    self.start, self.end = vocabulary.ids[START], vocabulary.ids[END]
    self._spelt = functools.lru_cache(maxsize=65536)(self._ids_of)

  @property
  def size(self) -> int:
    """How many ids there are."""
    return len(self.vocabulary.ids)

  def encode(self, text: str) -> list[int]:
    """All ids of a caption, without start and end; the two special tokens' names stand for them."""
    return [i for part in _parts().findall(cleaned(text)) for i in self._spelt(part)]

  def ids(self, texts: Sequence[str], length: int = LENGTH) -> Int[np.ndarray, "N T"]:
    """Start, the caption, end, zeros; of a caption that is too long the first ids, with the end in the last place."""
    if length < 2:
      raise UserError(f"captions of {length} positions have no room for their start and end: at least 2 are wanted")
    ids_NT = np.zeros((len(texts), length), np.int32)
    for row_T, text in zip(ids_NT, texts):
      found = [self.start, *self.encode(text)[: length - 2], self.end]
      row_T[: len(found)] = found
    return ids_NT

  def _ids_of(self, part: str) -> tuple[int, ...]:
    if part in (START, END):
      return (self.vocabulary.ids[part],)
    symbols = [byte_symbols()[byte] for byte in part.encode()]
    return tuple(self.vocabulary.ids[symbol] for symbol in self._merged([*symbols[:-1], symbols[-1] + WORD_END]))

  def _merged(self, symbols: list[str]) -> list[str]:
    """Joins the pair that comes first in the file, everywhere and from the left, until no pair is in it."""
    ranks = self.vocabulary.ranks
    while pairs := [pair for pair in itertools.pairwise(symbols) if pair in ranks]:
      first = min(pairs, key=ranks.__getitem__)
      joined: list[str] = []
      i = 0
      while i < len(symbols):
        step = 2 if tuple(symbols[i : i + 2]) == first else 1
        joined.append("".join(symbols[i : i + step]))
        i += step
      symbols = joined
    return symbols


def cleaned(text: str) -> str:
  """Mended, unescaped, in lower case, with single spaces between words and none around."""
  text = text if "<" in text else html.unescape(text)
  # A half of a pair of surrogates is no character, and has no bytes.
  text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
  text = unicodedata.normalize("NFC", text.translate(_mends()))
  return " ".join(html.unescape(html.unescape(text)).split()).lower()


@functools.cache
def _mends() -> dict[int, str | None]:
  """Ligatures by what they are made of, wide and narrow forms by the plain ones, straight quotes, no controls."""
  made_of = {ord(c): "".join(chr(int(n, 16)) for n in unicodedata.decomposition(c).split()[1:]) for c in LIGATURES}
  plain = {i: unicodedata.normalize("NFKC", chr(i)) for i in [0x3000, *range(0xFF01, 0xFFF0)]}
  single, double = [0x2BC, *range(0x2018, 0x201C)], range(0x201C, 0x2020)
  made_of[ord("ŉ")] = "'n"
  return {**made_of, **plain, **dict.fromkeys(single, "'"), **dict.fromkeys(double, '"'), **dict.fromkeys(CONTROLS)}


@functools.cache
def _parts() -> re.Pattern[str]:
  """The published pattern, whose letters and numbers are Unicode's categories L and N, which `re` has no name for."""
  letters, numbers = _category("L"), _category("N")
  special = "|".join(map(re.escape, (START, END)))
  # It is matched without regard to case: ſ is an s, and U+0345 a letter, so no mark, and yet in no run of letters.
  return re.compile(rf"{special}|'(?:[sſ]|t|re|ve|m|ll|d)|[{letters}]+|[{numbers}]|[^\s{letters}{numbers}\u0345]+")


def _category(major: str) -> str:
  """The inside of a character class of all code points whose category starts with a letter."""
  inside = [i for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i))[0] == major]
  return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _runs(inside))


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
  """First and last of every run of consecutive numbers, which ascend."""
  found: list[tuple[int, int]] = []
  for number in numbers:
    if found and found[-1][1] == number - 1:
      found[-1] = (found[-1][0], number)
    else:
      found.append((number, number))
  return found
