"""One measured number, with what it is of and how sure it is.

N examples.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Shaped

from dalle_jax.evaluation.intervals import wilson

Z = 1.959964  # of a 95 % interval
SHARE = "share"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """low, high: the ends of its 95 % interval over examples, where it has one.

  of: the pictures it is of, "drawn" or "real", "" where there is no choice; blur: their radius in pixels; examples: how
  many it is over; excluded: how many were left out for being too like training pictures; setting: the sampling that a
  sweep tried; note: what a reader must know of it.
  """

  metric: str
  value: float | int
  unit: str
  examples: int
  low: float | int | None = None
  high: float | int | None = None
  of: str = ""
  blur: float | int = 0
  excluded: int = 0
  setting: str = ""
  note: str = ""

  @property
  def key(self) -> tuple:
    """What two figures must share to be the same measurement."""
    return (self.metric, self.of, self.blur, self.setting, self.excluded > 0)

  def told(self) -> str:
    """The number for a person, its interval behind it; shares as percentages."""
    ends = [] if self.low is None or self.high is None else [self.low, self.high]
    if self.unit == SHARE:
      value, *told = (f"{100 * each:.1f}" for each in (self.value, *ends))
      return f"{value} %" + (f" [{', '.join(told)}]" if told else "")
    value, *told = (f"{each:.5g}" for each in (self.value, *ends))
    return value + (f" [{', '.join(told)}]" if told else "")


def of_mean(metric: str, values_N: Shaped[np.ndarray, " N"], unit: str, **more: object) -> Figure:
  """The mean over examples, and the interval that a normal distribution of it gives; none of a single example."""
  values_N = np.asarray(values_N, np.float64)
  mean, n = float(values_N.mean()), len(values_N)
  half = Z * float(values_N.std(ddof=1)) / math.sqrt(n) if n > 1 else None
  ends = {} if half is None else {"low": mean - half, "high": mean + half}
  return Figure(metric=metric, value=mean, unit=unit, examples=n, **ends, **more)


def of_share(metric: str, right_N: Shaped[np.ndarray, " N"], **more: object) -> Figure:
  """The share of examples that are right, and Wilson's interval."""
  found = wilson(float(np.asarray(right_N, np.float64).sum()), len(right_N))
  return Figure(metric=metric, value=found.rate, unit=SHARE, examples=found.of, low=found.low, high=found.high, **more)
