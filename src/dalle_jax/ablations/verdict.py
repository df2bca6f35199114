"""Verdicts: paired differences over seeds, with intervals, and what they say of a claim.

Arms at the same seed begin alike and see the same examples in the same order, so it is their difference at each seed
that counts: d > 0 where the first of the two is better, whether less or more is. Its mean has the interval of Student's
t at 95 % with one degree of freedom less than there are seeds. With `smallest`, the least difference that would matter:

  apart      the interval lies beyond 0, and the mean is `smallest` or more away from 0
  Better     agrees where the two are apart in the claimed direction; disagrees where the interval lies below `smallest`
  Same       agrees where the interval lies within ±smallest; disagrees where the two are apart
             else: can't tell at this scale

An arm whose training went out of bounds at every seed is worse than one that never did, with no interval needed. Where
it did so at some seeds alone, or on both sides, the seeds that both have are too few for more than "can't tell", and
without an interval of them there is no verdict. None of these is a verdict unless the control, known to be worse than
the paper's way, is found to be worse: then all that can be said is that the pack does not see such differences.

S seeds.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from dalle_jax.ablations.figures import Figures
from dalle_jax.ablations.pack import Better, Metric, Same

CONFIDENCE = 0.95
AGREES, DISAGREES, CANNOT_TELL = "agrees", "disagrees", "can't tell at this scale"
NO_VERDICT = "no verdict"

BySeed = Mapping[int, Figures]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
  """A mean over seeds and the ends of its interval, which one seed alone does not have."""

  mean: float
  low: float | None
  high: float | None
  seeds: int

  def apart(self, smallest: float) -> bool:
    """Whether the mean is found to be above 0, by `smallest` or more."""
    return self.low is not None and self.low > 0 and self.mean >= smallest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """What is said of a claim, why, and the difference it rests on where there is one."""

  claim: str
  verdict: str
  why: str
  difference: Interval | None = None


def interval(values: Sequence[float]) -> Interval:
  """Of the mean of values that are independent. Raises ValueError where there are none."""
  if not values:
    raise ValueError("there are no values to make an interval of")
  mean, count = float(np.mean(values)), len(values)
  if count < 2:
    return Interval(mean=mean, low=None, high=None, seeds=count)
  half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
  return Interval(mean=mean, low=mean - half, high=mean + half, seeds=count)


def difference(metric: Metric, arm: BySeed, other: BySeed) -> Interval | None:
  """How much better `arm` is than `other` over the seeds at which both have the figure; None where there are none."""
  seeds = [seed for seed in arm if seed in other and all(metric.name in each[seed].values for each in (arm, other))]
  sign = -1 if metric.lower else 1
  found = [sign * (arm[seed].values[metric.name] - other[seed].values[metric.name]) for seed in seeds]
  return interval(found) if found else None


def detected(metric: Metric, paper: BySeed, control: BySeed, seeds: Sequence[int]) -> bool:
  """Whether the control was told apart from the paper's way."""
  found = difference(metric, paper, control)
  return _outlived(paper, control, seeds) or (_whole(found, seeds) and found.apart(metric.smallest))


def judge(
  metric: Metric, claim: Better | Same, found: Mapping[str, BySeed], seeds: Sequence[int], control: bool
) -> Verdict:
  """What the runs say of a claim. control: whether the control was told apart."""
  one, two = dataclasses.astuple(claim)
  text = f"{one} is better than {two}" if isinstance(claim, Better) else f"{one} and {two} are the same"
  paired = difference(metric, found[one], found[two])
  verdict, why = _judged(metric, claim, found[one], found[two], seeds, paired)
  if not control:
    verdict, why = NO_VERDICT, "the control was not told apart"
  return Verdict(claim=text, verdict=verdict, why=why, difference=paired)


def _judged(
  metric: Metric, claim: Better | Same, one: BySeed, two: BySeed, seeds: Sequence[int], paired: Interval | None
) -> tuple[str, str]:
  better = isinstance(claim, Better)
  if _outlived(one, two, seeds):
    return (AGREES if better else DISAGREES), "the other's training went out of bounds at every seed"
  if _outlived(two, one, seeds):
    return DISAGREES, "its training went out of bounds at every seed, the other's at none"
  if any(each[seed].diverged for each in (one, two) for seed in seeds if seed in each):
    told = CANNOT_TELL if paired is not None and paired.low is not None else NO_VERDICT
    return told, "training went out of bounds at some seeds, or on both sides"
  if not _whole(paired, seeds):
    return NO_VERDICT, "runs failed or are not there yet"
  if paired.low is None:
    return NO_VERDICT, "one seed has no interval"
  return _of_interval(paired, metric.smallest, better)


def _of_interval(found: Interval, smallest: float, better: bool) -> tuple[str, str]:
  """As the rules above say."""
  reverse = Interval(mean=-found.mean, low=-found.high, high=-found.low, seeds=found.seeds)
  if better:
    if found.apart(smallest):
      return AGREES, "the interval lies beyond 0, the mean is as much as would matter"
    if found.high < smallest:
      return DISAGREES, "the interval lies below what would matter"
  else:
    if -smallest < found.low and found.high < smallest:
      return AGREES, "the interval lies within what would matter"
    if found.apart(smallest) or reverse.apart(smallest):
      return DISAGREES, "the interval lies beyond 0, the mean is as much as would matter"
  return CANNOT_TELL, "the interval holds both what would matter and what would not"


def _outlived(one: BySeed, two: BySeed, seeds: Sequence[int]) -> bool:
  """Whether one finished at every seed and two went out of bounds at every seed."""
  finished = all(seed in one and one[seed].failed is None for seed in seeds)
  return finished and all(seed in two and two[seed].diverged for seed in seeds)


def _whole(found: Interval | None, seeds: Sequence[int]) -> bool:
  return found is not None and found.seeds == len(seeds)
