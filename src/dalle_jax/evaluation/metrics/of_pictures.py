"""Figures of drawn pictures, beside the same ones of real pictures, from what networks and the judge saw in them.

N pictures, D features, E CLIP's shared space.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from dalle_jax.evaluation import clip_score, frechet, inception_score, kid, r_precision
from dalle_jax.evaluation.frechet import Statistics
from dalle_jax.evaluation.mean_interval import Mean
from dalle_jax.evaluation.metrics.figures import SHARE, Figure, of_share
from dalle_jax.evaluation.metrics.looked_at import ASPECTS
from dalle_jax.evaluation.metrics.parts import Parts
from dalle_jax.evaluation.r_precision import Ranked
from dalle_jax.evaluation.reference import Reference

Told = Iterator[tuple[Figure, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
  """What was seen in pictures of one kind, "drawn" or "real", and which of them count."""

  of: str
  parts: Parts
  keep_N: Bool[np.ndarray, " N"]

  def __len__(self) -> int:
    return int(self.keep_N.sum())

  def column(self, name: str) -> Shaped[np.ndarray, "N ..."]:
    """A column of those that count."""
    return self.parts.column(name)[self.keep_N]

  def statistics(self, name: str) -> Statistics:
    """Mean and covariance of a column of those that count."""
    return statistics(self.parts, name, self.keep_N)


def statistics(parts: Parts, name: str, keep_N: Bool[np.ndarray, " N"]) -> Statistics:
  """Mean and covariance of the kept ones of a column, a part at a time."""
  begin, total = 0, None
  for part_ND in parts.each(name):
    kept_ND = part_ND[keep_N[begin : begin + len(part_ND)]]
    begin += len(part_ND)
    if len(kept_ND):
      found = frechet.of(kept_ND)
      total = found if total is None else total + found
  return total


def of_inception(
  drawn: Seen,
  real: Seen | None,
  radius: float | int,
  wanted: Sequence[str],
  reference: Reference | None,
  about: Mapping[str, Any],
) -> Told:
  """fid, kid and is at one radius. reference: what fid and kid are held against; the real pictures if None.

  about: what a protocol says of the real pictures.
  """
  name, blur = f"inception@{radius:g}", {"blur": radius}
  held_against = about if reference is None else reference.told()
  if "fid" in wanted:
    own = drawn.statistics(name)
    if reference is None:
      held = real.statistics(name)
      value, pictures = frechet.between(own, held), held.pictures
    else:
      value, pictures = reference.distance(own), reference.pictures or own.pictures
    note = frechet.caveat(min(own.pictures, pictures), own.dim) or ""
    figure = Figure(metric="fid", value=value, unit="", examples=len(drawn), of="drawn", note=note, **blur)
    yield figure, {"reference": held_against}
  if "kid" in wanted:
    found = kid.distance(drawn.column(name), real.column(name) if reference is None else reference.features_ND)
    spread = "" if found.std is None else f", spread {found.std:.3g}"
    note = f"mean of {found.subsets} subsets of {found.subset_size} pictures{spread}"
    facts = {"reference": held_against, "subsets": found.subsets, "pictures of a subset": found.subset_size}
    yield Figure(metric="kid", value=found.mean, unit="", examples=len(drawn), of="drawn", note=note, **blur), facts
  if "is" in wanted:
    for seen in (each for each in (drawn, real) if each is not None):
      found = inception_score.score(seen.column(f"logits@{radius:g}"))
      note = f"mean of {found.parts} parts, spread {found.std:.3g}"
      figure = Figure(metric="is", value=found.mean, unit="", examples=len(seen), of=seen.of, note=note, **blur)
      yield figure, {"parts": found.parts}


def of_clip(
  drawn: Seen, real: Seen, radius: float | int, wanted: Sequence[str], about: Mapping[str, Any], seed: int
) -> Told:
  """fd_clip, clip_score and r_precision at one radius."""
  name, blur = f"clip@{radius:g}", {"blur": radius}
  if "fd_clip" in wanted:
    own, held = drawn.statistics(name), real.statistics(name)
    note = frechet.caveat(min(own.pictures, held.pictures), own.dim, "fd_clip") or ""
    figure = Figure(
      metric="fd_clip", value=frechet.between(own, held), unit="", examples=len(drawn), of="drawn", note=note, **blur
    )
    yield figure, {"reference": about}
  for seen in (drawn, real):
    picture_NE, text_NE = seen.column(name), seen.column("clip_text")
    if "clip_score" in wanted:
      found, more = clip_score.clip_score(picture_NE[:, None], text_NE), {"examples": len(seen), "of": seen.of, **blur}
      note = f"{found.negative} cosines below 0 count as 0" if found.negative else ""
      yield _mean("clip_score", found.score, "of 100", note=note, **more), {}
      yield _mean("clip_cosine", found.cosine, "", **more), {}
    if "r_precision" in wanted:
      _, first_M, own_N = np.unique(seen.column("caption"), return_index=True, return_inverse=True)
      candidates = min(r_precision.CANDIDATES, len(first_M))
      texts_ME = text_NE[first_M]
      among = r_precision.among_drawn(picture_NE[:, None], texts_ME, own_N, seed=seed, candidates=candidates)
      yield _share("r_precision", among, seen, **blur), {"candidates": candidates, "seed": seed}
      of_all = r_precision.among_all(picture_NE[:, None], texts_ME, own_N)
      yield _share("r_precision_of_all", of_all, seen, **blur), {"candidates": len(first_M)}


def _mean(metric: str, mean: Mean, unit: str, **more: Any) -> Figure:
  return Figure(metric=metric, value=mean.mean, low=mean.low, high=mean.high, unit=unit, **more)


def _share(metric: str, ranked: Ranked, seen: Seen, **more: Any) -> Figure:
  note = f"of {ranked.candidates} captions; chance: {100 * ranked.chance():.3g} %"
  right = ranked.within()
  ends = {"low": right.low, "high": right.high}
  return Figure(metric=metric, value=right.rate, unit=SHARE, examples=len(seen), of=seen.of, note=note, **ends, **more)


def of_judge(drawn: Seen, real: Seen, radius: float | int) -> Told:
  """composition: whether all that the caption says is so; and each aspect, of the captions that say something of it."""
  judge = {"judge": "pixels read, then compared with the caption"}
  for seen in (drawn, real):
    right_NA, claimed_NA = seen.column(f"right@{radius:g}"), seen.column("claimed")
    for i, aspect in enumerate(ASPECTS):
      metric = "composition" if aspect == "all" else f"composition_{aspect}"
      right_N = right_NA[claimed_NA[:, i], i]
      if len(right_N):
        yield of_share(metric, right_N, of=seen.of, blur=radius), judge
