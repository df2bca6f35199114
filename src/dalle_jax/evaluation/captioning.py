"""Captions written of a split's pictures: is what they say so? By number of objects and by aspect, with 95 % intervals.

A judge reads the pixels; what a caption claims is read by the templates turned round (`data.scene_parsing`). A caption
that is not of their form claims nothing that can be judged, and counts as wrong.

    single, best of n   a caption as it comes; the one of n with the best mean likelihood a token
    chance              the first caption of each picture, judged by other pictures with as many objects
    the data's own      captions that the data has of these pictures: the judge's own limit

C pictures, N captions of each, H W pixels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from dalle_jax.data import judge, scene_parsing, scene_reading, scenes
from dalle_jax.evaluation import composition
from dalle_jax.evaluation.composition import ASPECTS, Row
from dalle_jax.evaluation.intervals import Proportion, wilson
from dalle_jax.evaluation.readings import read_groups
from dalle_jax.sampling import rerank

SHOWN = 24
REFERENCES = ("chance", "the data's own")


@runtime_checkable
class Spells(Protocol):
  """What is used of `data.captions.Tokenizer`."""

  @property
  def size(self) -> int: ...

  def ids(self, text: str) -> np.ndarray: ...

  def decode(self, ids: Sequence[int]) -> str: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ShownCaption:
  """A picture, its best caption, whether that is right, and one that the data has."""

  image_HWC: UInt8[np.ndarray, "H W 3"]
  text: str
  right: bool
  own: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Written:
  """The captions of one split, judged. right: for "all", for "form" (the judge can read it) and for each aspect."""

  split: str
  objects_C: np.ndarray
  scores_CN: Float[np.ndarray, "C N"]
  right: dict[str, Bool[np.ndarray, "C N"]]
  chance_C: Float[np.ndarray, " C"]
  own_C: Bool[np.ndarray, " C"]
  shown: tuple[ShownCaption, ...]

  @property
  def samples(self) -> int:
    """Captions of each picture."""
    return self.scores_CN.shape[1]

  def best_of(self, n: int, aspect: str = "all") -> Float[np.ndarray, " C"]:
    """For each picture, how probably the best-scored of n captions is right."""
    return rerank.best_of(self.scores_CN, self.right[aspect], n)


def judge_split(
  split: str,
  images_CHWC: UInt8[np.ndarray, "C H W 3"],
  own_C: Sequence[tuple[str, scenes.Claims]],
  texts_CN: Sequence[Sequence[str]],
  scores_CN: Float[np.ndarray, "C N"],
) -> Written:
  """Judges N captions of each picture, and the data's own, which come with what they claim."""
  (readings,) = read_groups([images_CHWC])
  claims = [[scene_parsing.parse(text) for text in texts] for texts in texts_CN]
  verdicts = [[_verdict(reading, each) for each in row] for reading, row in zip(readings, claims, strict=True)]
  right = {"all": _table(verdicts, lambda v: v.all_right), "form": _table(verdicts, lambda v: True)}
  right |= {name: _table(verdicts, lambda v, name=name: getattr(v, name)) for name in ASPECTS}
  objects_C = np.array([len(each.objects) for _, each in own_C])
  best_C = scores_CN.argmax(axis=1)
  return Written(
    split=split,
    objects_C=objects_C,
    scores_CN=scores_CN,
    right=right,
    chance_C=_chance(readings, [row[0] for row in claims], objects_C),
    own_C=np.array([judge.compare(reading, each).all_right for reading, (_, each) in zip(readings, own_C)]),
    shown=tuple(
      ShownCaption(
        image_HWC=images_CHWC[c], text=texts_CN[c][best_C[c]], right=bool(right["all"][c, best_C[c]]), own=own_C[c][0]
      )
      for c in range(min(SHOWN, len(objects_C)))
    ),
  )


def table(written: Written, ns: Sequence[int] = (1, 8, 32)) -> list[Row]:
  """How many captions are right, by the picture's number of objects; n beyond the captions written are left out."""
  lines = {_name(n): written.best_of(n) for n in ns if n <= written.samples}
  lines["chance: captions shuffled"] = written.chance_C
  lines["the data's own captions"] = written.own_C
  return [
    Row(split=written.split, pictures=name, by_objects=composition.by_objects(value_C, written.objects_C))
    for name, value_C in lines.items()
  ]


def aspects(written: Written, ns: Sequence[int] = (1, 8, 32)) -> dict[str, dict[str, Proportion]]:
  """For each aspect, the proportion of captions in which it is right; what a caption leaves unsaid is."""
  return {
    aspect: {
      _name(n): wilson(written.best_of(n, aspect).sum(), len(written.objects_C)) for n in ns if n <= written.samples
    }
    for aspect in ("form", *ASPECTS)
  }


def _verdict(reading: scene_reading.Reading, claims: scenes.Claims | None) -> judge.Verdict | None:
  return None if claims is None else judge.compare(reading, claims)


def _table(verdicts, look) -> Bool[np.ndarray, "C N"]:
  return np.array([[v is not None and look(v) for v in row] for row in verdicts])


def _chance(readings, first_C, objects_C: np.ndarray) -> Float[np.ndarray, " C"]:
  """For each picture's first caption, the share of other pictures with as many objects that it is right for."""
  shares = []
  for i, claims in enumerate(first_C):
    others = [r for k, r in enumerate(readings) if k != i and objects_C[k] == objects_C[i]]
    right = [claims is not None and judge.compare(other, claims).all_right for other in others]
    shares.append(float(np.mean(right)) if right else 0.0)
  return np.array(shares)


def _name(n: int) -> str:
  return "single caption" if n == 1 else f"best of {n} by likelihood"
