"""What a stage sees of an example: pixels, or the dVAE's codes, with one of its captions or without.

For the same generator both views choose the same caption and the same crop, so codes and pixels give the same loss.

T text positions, M near misses, N codes of a picture, S S pixels.
"""

import dataclasses
from typing import Any

import numpy as np

from dalle_jax.data.captions import Tokenizer
from dalle_jax.data.images import Crop, numbered_crop
from dalle_jax.data.near_misses import NearMisses


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureView:
  """{"image": uint8[S, S, 3]} and, with a tokenizer, {"text": int32[T]}; "negative_text": int32[M, T] with near misses.

  drop_captions: how often the caption is the empty one. crops: None crops anew each time; N takes one of the N crops
  that `codes.encode` numbers for the same seed.
  """

  crop: Crop
  tokenizer: Tokenizer | None = None
  near_misses: NearMisses | None = None
  drop_captions: float = 0.0
  crops: int | None = None
  seed: int = 0

  def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    text = {} if self.tokenizer is None else {"text": one_caption(example["captions"], self.tokenizer, rng)}
    if self.crops is None:
      image_SSC = self.crop(example["image"], rng)
    else:
      number = int(rng.integers(self.crops))
      image_SSC = numbered_crop(self.crop, example["image"], seed=self.seed, key=example["key"], number=number)
    seen = _perhaps_untold({"image": image_SSC} | text, self.tokenizer, self.drop_captions, rng)
    return _with_near_miss(seen, self.near_misses, rng)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodesView:
  """{"codes": uint16[N], "text": int32[T]}: the codes of one of the example's crops; {"negative_text": int32[M, T]}
  as above.
  """

  tokenizer: Tokenizer
  near_misses: NearMisses | None = None
  drop_captions: float = 0.0

  def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    text_T = one_caption(example["captions"], self.tokenizer, rng)  # first, as above
    number = int(rng.integers(len(example["codes"])))
    seen = {"codes": example["codes"][number].reshape(-1), "text": text_T}
    seen = _perhaps_untold(seen, self.tokenizer, self.drop_captions, rng)
    return _with_near_miss(seen, self.near_misses, rng)


def one_caption(captions: list[str], tokenizer: Tokenizer, rng: np.random.Generator) -> np.ndarray:
  """The ids of a caption drawn from the example's, with the tokenizer's dropout."""
  return tokenizer.ids(captions[int(rng.integers(len(captions)))], rng)


def _perhaps_untold(
  seen: dict[str, np.ndarray], tokenizer: Tokenizer | None, rate: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  return seen | {"text": tokenizer.ids("")} if rate and rng.random() < rate else seen


def _with_near_miss(
  seen: dict[str, np.ndarray], near_misses: NearMisses | None, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  return seen if near_misses is None else seen | {"negative_text": near_misses.of(seen["text"], rng)}
