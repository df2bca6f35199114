"""What evaluation reads of a prepared data set: some examples of a split as arrays, the same ones every time.

N examples, H W pixels, T text positions.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax.data import scenes
from dalle_jax.errors import UserError

PREFERRED = ("test", "valid", "validation", "held_out", "train")


@runtime_checkable
class Prepared(Protocol):
  """What is used of `data.prepared.Prepared`."""

  @property
  def splits(self) -> Any: ...

  def source(self, split: str) -> Any: ...


@runtime_checkable
class Words(Protocol):
  """What is used of `data.captions.Tokenizer`."""

  def ids(self, text: str) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
  """Examples of one split. claims: what each caption says of its picture, None where the data has no judge."""

  split: str
  captions: tuple[str, ...]
  images_NHWC: UInt8[np.ndarray, "N H W 3"]
  text_NT: Int[np.ndarray, "N T"]
  claims: tuple[scenes.Claims, ...] | None


def held_out_split(prepared: Prepared, wanted: str | None) -> str:
  """The split asked for, or the one that was trained on least. Raises UserError naming those there are."""
  splits = list(prepared.splits)
  if wanted is None:
    return next((name for name in PREFERRED if name in splits), splits[-1])
  if wanted not in splits:
    raise UserError(f"the data has no split {wanted!r}; it has {', '.join(splits)}")
  return wanted


def read(
  prepared: Prepared, split: str, rows: Sequence[int], *, size: int, words: Words, seed: int | None = None
) -> Examples:
  """Those rows of a split: pictures cropped at their centre to `size` pixels, the first caption (seed: a drawn one)."""
  from dalle_jax.data.images import CentreCrop

  source, crop, rng = prepared.source(split), CentreCrop(size=size), np.random.default_rng(seed)
  captions, images, claims = [], [], []
  for row in rows:
    example = source[int(row)]
    which = 0 if seed is None else int(rng.integers(len(example["captions"])))
    captions.append(example["captions"][which])
    images.append(crop(example["image"], rng))
    claims.append(scenes.claims_of(example["attributes"])[which] if example["attributes"] else None)
  return Examples(
    split=split,
    captions=tuple(captions),
    images_NHWC=np.stack(images),
    text_NT=np.stack([words.ids(caption) for caption in captions]),
    claims=None if None in claims else tuple(claims),
  )


def first(prepared: Prepared, split: str, count: int, *, size: int, words: Words) -> Examples:
  """The first `count` examples of a split (all, if it has fewer); TFDS has shuffled them while writing."""
  return read(prepared, split, range(min(count, len(prepared.source(split)))), size=size, words=words)
