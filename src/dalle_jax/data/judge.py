"""Which of a caption's claims a picture bears out: pixels are read without the caption (`scene_reading`) and compared.

An object's attributes are right if the picture's object that is matched to it has them; the matching is the one that
makes most attributes right. What the caption leaves unsaid is not judged. Relations are judged between matched objects.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from dalle_jax.data import scene_reading, scenes

TOUCH = 1.6  # units between two boxes that still touch
ATTRIBUTES = ("shape", "colour", "size", "texture")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """Each field answers for the whole caption: are all claims of that sort right? True if there are none."""

  count: bool
  shape: bool
  colour: bool
  size: bool
  texture: bool
  relation: bool
  background: bool

  @property
  def all_right(self) -> bool:
    return all(dataclasses.astuple(self))


def judge(images_BHWC: UInt8[np.ndarray, "B H W C"], claims: Sequence[scenes.Claims]) -> list[Verdict]:
  """The verdict on each picture and the claims of its caption."""
  return [compare(reading, claim) for reading, claim in zip(scene_reading.read(images_BHWC), claims, strict=True)]


def compare(reading: scene_reading.Reading, claims: scenes.Claims) -> Verdict:
  """What was read against what was claimed."""
  found = list(reading.objects) + [None] * (len(claims.objects) - len(reading.objects))
  matchings = list(itertools.permutations(found, len(claims.objects)))
  verdicts = [_compare(reading, claims, matching) for matching in matchings]
  return max(verdicts, key=lambda v: (v.all_right, sum(dataclasses.astuple(v))))


def says(claims: scenes.Claims, aspect: str) -> bool:
  """Whether a caption says anything of this aspect: where it does not, the judge finds nothing wrong."""
  if aspect == "relation":
    return bool(claims.relations)
  if aspect in ATTRIBUTES:
    return any(getattr(each, aspect) is not None for each in claims.objects)
  return aspect == "count" or claims.background is not None


def share(verdict: Verdict, claims: scenes.Claims) -> float:
  """Of the aspects that the caption says anything of, the share that is right."""
  asked = [name for name in dataclasses.asdict(verdict) if says(claims, name)]
  return sum(getattr(verdict, name) for name in asked) / len(asked)


def _compare(reading, claims, matching) -> Verdict:
  right = {
    name: all(_bears_out(seen, claim, name) for seen, claim in zip(matching, claims.objects)) for name in ATTRIBUTES
  }
  return Verdict(
    count=len(reading.objects) == len(claims.objects),
    relation=all(stands(matching[a], name, matching[b]) for a, name, b in claims.relations),
    background=claims.background in (None, reading.background),
    **right,
  )


def _bears_out(seen, claim, name: str) -> bool:
  said = getattr(claim, name)
  return said is None or (seen is not None and getattr(seen, name) == said)


def stands(a: scene_reading.Found | None, name: str, b: scene_reading.Found | None) -> bool:
  """Whether a is `name` b, e.g. "left of". What rests on something is also above it."""
  if a is None or b is None:
    return False
  dx, dy = b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]
  gap_x = dx - a.half_extents[0] - b.half_extents[0]
  gap_y = dy - a.half_extents[1] - b.half_extents[1]
  if name == "left of":
    return gap_x > -TOUCH and dx > abs(dy)
  if name == "above":
    return gap_y > -TOUCH and dy > abs(dx)
  if name == "on top of":
    return abs(gap_y) < TOUCH and abs(dx) < max(a.half_extents[0], b.half_extents[0])
  return all(abs(d) < outer - inner + TOUCH for d, inner, outer in zip((dx, dy), a.half_extents, b.half_extents)) and (
    a.half_extents[0] < b.half_extents[0]
  )
