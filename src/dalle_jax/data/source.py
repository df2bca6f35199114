"""What `dalle data prepare` reads: a source yields pictures with captions, and what it had to leave out.

A source does not decode: `prepare` does, and counts what can't be.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Raw:
  """One picture as bytes of any file format, with its captions as written.

  key: names it in reports, unique in its split; attributes: the truth about it as JSON where a judge knows it, else "".
  """

  key: str
  image: bytes
  captions: tuple[str, ...]
  attributes: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropped:
  """What is left out. reason: a few words that many share ("no caption"); detail: what is particular to this one."""

  key: str
  reason: str
  detail: str = ""


@runtime_checkable
class Source(Protocol):
  """Pictures with captions, by split."""

  @property
  def name(self) -> str:
    """What the data set is called."""

  @property
  def splits(self) -> tuple[str, ...]:
    """Its splits, the one to train on first."""

  def examples(self, split: str) -> Iterator[Raw | Dropped]:
    """The split's examples in a fixed order, and in between what was left out."""
