"""Which examples are held out of training where nobody has said: one in twenty, by a hash of their keys.

More examples never move one that was there from one side to the other, except across the two bounds below.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

SHARE = 0.05
FEWEST = 20  # examples of which one is held out; of fewer, none is


@dataclasses.dataclass(frozen=True)
class Threshold:
  """Keys whose hash is below `valid` of 2**64 are held out."""

  valid: int
  train_count: int
  valid_count: int

  @property
  def splits(self) -> tuple[str, ...]:
    return ("train", "valid") if self.valid_count else ("train",)

  def split(self, key: str) -> str:
    """Where the example of this key belongs: "train" or "valid"."""
    return "valid" if _hash(key) < self.valid else "train"

  def count(self, split: str) -> int:
    return self.valid_count if split == "valid" else self.train_count


def threshold(keys: Iterable[str]) -> Threshold:
  """The threshold for these keys: SHARE of them held out, at least one of FEWEST or more, none of fewer."""
  bound = int(SHARE * 2**64)
  count, below, least = 0, 0, 2**64
  for key in keys:
    number = _hash(key)
    count, below, least = count + 1, below + (number < bound), min(least, number)
  if count < FEWEST:
    bound, below = 0, 0
  elif not below:
    bound, below = least + 1, 1
  return Threshold(bound, count - below, below)


def _hash(key: str) -> int:
  return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")
