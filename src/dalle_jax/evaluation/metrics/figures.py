"""One measured number, with what it is of and how sure it is.

N examples.
"""

import dataclasses

import numpy as np
from jaxtyping import Shaped

from dalle_jax.evaluation.intervals import wilson
from dalle_jax.evaluation.mean_interval import mean_of

SHARE = "share"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """low, high: the ends of its 95 % interval over examples, where it has one.

  of: the pictures it is of, "drawn" or "real", "" where there is no choice; blur: their radius in pixels; examples: how
  many it is over; without_list: whether it is without the pictures that an exclusion list names, of which `excluded`
  would have been among these; setting: the sampling that a sweep tried; note: what a reader must know of it.
  """

  metric: str
  value: float | int
  unit: str
  examples: int
  low: float | int | None = None
  high: float | int | None = None
  of: str = ""
  blur: float | int = 0
  without_list: bool = False
  excluded: int = 0
  setting: str = ""
  note: str = ""

  @property
  def key(self) -> tuple:
    """What two figures must share to be the same measurement."""
    return (self.metric, self.of, self.blur, self.setting, self.without_list)

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
  found = mean_of(values_N) if len(values_N) > 1 else None
  ends = {} if found is None else {"low": found.low, "high": found.high}
  return Figure(metric=metric, value=float(values_N.mean()), unit=unit, examples=len(values_N), **ends, **more)


def of_share(metric: str, right_N: Shaped[np.ndarray, " N"], **more: object) -> Figure:
  """The share of examples that are right, and Wilson's interval."""
  found = wilson(float(np.asarray(right_N, np.float64).sum()), len(right_N))
  return Figure(metric=metric, value=found.rate, unit=SHARE, examples=found.of, low=found.low, high=found.high, **more)
