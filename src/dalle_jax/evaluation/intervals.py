"""Proportions with Wilson's score interval: right near 0 and 1, where the usual ± 1.96 standard errors is not."""

import dataclasses
import math
import statistics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proportion:
  """`right` out of `of`, and the ends of its confidence interval; all fractions of 1 but `right` and `of`."""

  right: float
  of: int
  rate: float
  low: float
  high: float

  def __str__(self) -> str:
    return f"{100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(right: float | int, of: int, confidence: float = 0.95) -> Proportion:
  """Wilson's interval for `right` successes in `of` independent trials.

  `right` may be fractional, a sum of values in [0, 1]: such a value varies no more than a coin of the same mean, so the
  interval is then too wide rather than too narrow. Raises ValueError unless 0 <= right <= of and of >= 1.
  """
  if of < 1 or not -1e-6 <= right <= of + 1e-6:
    raise ValueError(f"got {right} right of {of}, wanted 0 <= right <= of and at least one trial")
  right = min(max(float(right), 0.0), float(of))
  z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
  rate = right / of
  middle = (rate + z**2 / (2 * of)) / (1 + z**2 / of)
  half = z / (1 + z**2 / of) * math.sqrt(rate * (1 - rate) / of + z**2 / (4 * of**2))
  low = 0.0 if right == 0 else middle - half
  high = 1.0 if right == of else middle + half
  return Proportion(right=right, of=of, rate=rate, low=low, high=high)
