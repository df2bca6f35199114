"""A mean and its confidence interval, from independent values: the normal approximation, so for some dozens of them."""

import dataclasses
import math
import statistics

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
  """The mean of `of` values, and the ends of its confidence interval."""

  mean: float
  low: float
  high: float
  of: int

  def __str__(self) -> str:
    return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_of(values_N: Float[np.ndarray, " N"], confidence: float = 0.95) -> Mean:
  """Mean plus and minus z standard errors. Raises ValueError for fewer than two values, which have no spread."""
  if len(values_N) < 2:
    raise ValueError(f"got {len(values_N)} values, wanted at least 2: one has no spread to make an interval of")
  z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
  mean, error = float(np.mean(values_N)), float(np.std(values_N, ddof=1)) / math.sqrt(len(values_N))
  return Mean(mean=mean, low=mean - z * error, high=mean + z * error, of=len(values_N))
