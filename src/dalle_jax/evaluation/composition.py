"""Composition: are the pictures of a split what their captions say? By number of objects, with 95 % intervals.

The judge reads pixels and never ranks. One draw of N samples a caption serves every n and everything that ranks: "best
of n" is the mean over all subsets of n of the N (`rerank.best_of`), a value in [0, 1] for each caption, and its
interval takes the captions as the independent trials.

    single, best of n   a sample as it comes; the one of n that a ranker scores highest
    any of N            whether any sample is right: what a perfect reranker would reach
    chance              the samples judged by the captions of other pictures with as many objects
    ceiling             the dVAE's reconstructions of the true pictures
    true pictures       the judge's own limit

C captions, N samples of each, H W pixels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from dalle_jax.data import judge, scene_reading, scenes
from dalle_jax.evaluation.intervals import Proportion, wilson
from dalle_jax.evaluation.readings import read_groups
from dalle_jax.sampling import rerank

ASPECTS = tuple(field.name for field in dataclasses.fields(judge.Verdict))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
  """One split, drawn and judged.

  scores: of each sample, by what ranks; right: for "all" and for each aspect of a verdict, whether each sample is so;
  chance_C: the share of other captions (of as many objects) that the first sample is right for; ceiling_C, truth_C: of
  reconstructions and true pictures.
  """

  split: str
  objects_C: np.ndarray
  scores: Mapping[str, Float[np.ndarray, "C N"]]
  right: dict[str, Bool[np.ndarray, "C N"]]
  chance_C: Float[np.ndarray, " C"]
  ceiling_C: Bool[np.ndarray, " C"]
  truth_C: Bool[np.ndarray, " C"]

  @property
  def samples(self) -> int:
    """Samples of each caption."""
    return self.right["all"].shape[1]

  def single(self, aspect: str = "all") -> Float[np.ndarray, " C"]:
    """For each caption, how probably a sample is right."""
    return self.right[aspect].mean(axis=1)

  def best_of(self, n: int, by: str, aspect: str = "all") -> Float[np.ndarray, " C"]:
    """For each caption, how probably the one of n samples is right that is scored best by this ranker."""
    return rerank.best_of(self.scores[by], self.right[aspect], n)

  def any_of(self, n: int) -> Float[np.ndarray, " C"]:
    """For each caption, how probably any of n samples is right: what a perfect ranker would reach."""
    return rerank.any_of(self.right["all"], n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One line of the table: which pictures, and the proportion right by the caption's number of objects."""

  split: str
  pictures: str
  by_objects: dict[str, Proportion]


def judge_split(
  split: str,
  claims_C: Sequence[scenes.Claims],
  *,
  samples_CNHWC: UInt8[np.ndarray, "C N H W 3"],
  scores: Mapping[str, Float[np.ndarray, "C N"]],
  reconstructions_CHWC: UInt8[np.ndarray, "C H W 3"],
  truths_CHWC: UInt8[np.ndarray, "C H W 3"],
  progress: Callable[[int], object] | None = None,
) -> Judged:
  """Judges a split's samples, reconstructions and true pictures. progress: told how many pictures have been read."""
  verdicts, first = [], []
  for readings, claims in zip(read_groups(list(samples_CNHWC)), claims_C, strict=True):
    first.append(readings[0])
    verdicts.append([judge.compare(reading, claims) for reading in readings])
    if progress:
      progress(len(readings))
  whole = lambda images: np.array([v.all_right for v in judge.judge(images, claims_C)])  # noqa: E731
  return Judged(
    split=split,
    objects_C=np.array([len(claims.objects) for claims in claims_C]),
    scores=scores,
    right={"all": np.array([[v.all_right for v in row] for row in verdicts])}
    | {name: np.array([[getattr(v, name) for v in row] for row in verdicts]) for name in ASPECTS},
    chance_C=_chance(first, claims_C),
    ceiling_C=whole(reconstructions_CHWC),
    truth_C=whole(truths_CHWC),
  )


def table(judged: Judged, ns: Sequence[int] = (1, 8, 32)) -> list[Row]:
  """The lines for one split; n beyond the samples drawn are left out."""
  lines = _drawn(judged, ns)
  lines[f"any of {judged.samples} (a perfect reranker)"] = judged.any_of(judged.samples)
  lines["chance: captions shuffled"] = judged.chance_C
  lines["ceiling: dVAE's reconstructions"] = judged.ceiling_C
  lines["true pictures"] = judged.truth_C
  return [
    Row(split=judged.split, pictures=name, by_objects=by_objects(value_C, judged.objects_C))
    for name, value_C in lines.items()
  ]


def aspects(judged: Judged, ns: Sequence[int] = (1, 32)) -> dict[str, dict[str, Proportion]]:
  """For each aspect of the caption, the proportion right of single samples and of the best of n."""
  whole = len(judged.objects_C)
  return {
    aspect: {name: wilson(value_C.sum(), whole) for name, value_C in _drawn(judged, ns, aspect).items()}
    for aspect in ASPECTS
  }


def curve(judged: Judged, by: str | None, objects: int | None = None) -> dict[int, Proportion]:
  """The proportion right of the best of n by this ranker, n = 1, 2, 4 ... N; by a perfect one if None.

  objects: of captions with that many objects; of all if None.
  """
  chosen_C = judged.objects_C == objects if objects else np.ones(len(judged.objects_C), bool)
  value_C = judged.any_of if by is None else lambda n: judged.best_of(n, by)
  return {n: wilson(value_C(n)[chosen_C].sum(), int(chosen_C.sum())) for n in rerank.powers_of_two(judged.samples)}


def columns_of(rows: Sequence[Row]) -> list[str]:
  """The columns that any of the rows has, "all" last: of few captions a split may have none with one object."""
  found = {name for row in rows for name in row.by_objects}
  return [*sorted(found - {"all"}), "all"]


def as_text(rows: Sequence[Row]) -> str:
  """The rows as a table for a terminal."""
  columns = columns_of(rows)
  head = ["split", "pictures", *columns]
  cells = [[row.split, row.pictures, *(str(row.by_objects.get(name, "")) for name in columns)] for row in rows]
  widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
  return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths)).rstrip() for line in [head, *cells])


def _chance(readings_C: Sequence[scene_reading.Reading], claims_C: Sequence[scenes.Claims]) -> Float[np.ndarray, " C"]:
  """For each picture, the share of the other captions with as many objects that it is right for."""
  shares = []
  for i, reading in enumerate(readings_C):
    others = [c for k, c in enumerate(claims_C) if k != i and len(c.objects) == len(claims_C[i].objects)]
    right = [judge.compare(reading, other).all_right for other in others]
    shares.append(float(np.mean(right)) if right else 0.0)
  return np.array(shares)


def by_objects(value_C: np.ndarray, objects_C: np.ndarray) -> dict[str, Proportion]:
  """Intervals for the captions of each number of objects, and for all."""
  groups = {f"{count} object" + "s" * (count > 1): objects_C == count for count in np.unique(objects_C).tolist()}
  groups["all"] = np.ones(len(objects_C), bool)
  return {name: wilson(float(value_C[chosen_C].sum()), int(chosen_C.sum())) for name, chosen_C in groups.items()}


def _drawn(judged: Judged, ns: Sequence[int], aspect: str = "all") -> dict[str, Float[np.ndarray, " C"]]:
  """Of single samples, and of the best of n by each ranker, by name, as far as there are so many samples."""
  found = {"single sample": judged.single(aspect)}
  for by in judged.scores:
    for n in ns:
      if 1 < n <= judged.samples:
        found[f"best of {n} by {by}"] = judged.best_of(n, by, aspect)
  return found
