"""Kernel Inception distance (Binkowski et al. 2018): the squared MMD of two sets of features, unbiased at any number.

The kernel is (x.y / D + 1)^3. As torch-fidelity computes it: subsets of both sets drawn by NumPy's legacy generator
(that of published figures), their mean and spread told; in float64. clean-fid tells the mean alone, of subsets that it
draws anew each time.

N M pictures, D E dimensions, which must be as many, S a subset.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from dalle_jax.errors import UserError

SEED = 2020


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance:
  """mean and std over the subsets; no std where both sets were taken whole, once.

  A mean slightly below 0 is possible, and says that the two sets are much alike.
  """

  mean: float
  std: float | None
  subsets: int
  subset_size: int


def distance(
  one_ND: Float[np.ndarray, "N D"],
  other_ME: Float[np.ndarray, "M E"],
  subsets: int = 100,
  subset_size: int = 1000,
  seed: int = SEED,
) -> Distance:
  """Of subsets of `subset_size` pictures, or of as many as the smaller set has: the result says which.

  Raises UserError for fewer than two pictures, for no subset, or where the two are of other dimensions.
  """
  size = min(subset_size, len(one_ND), len(other_ME))
  if size < 2 or subsets < 1:
    raise UserError(f"KID wants at least one subset of two pictures, got {subsets} of {size}")
  if one_ND.shape[1] != other_ME.shape[1]:
    raise UserError(f"features of {one_ND.shape[1]} numbers can't be compared with features of {other_ME.shape[1]}")
  whole = size == len(one_ND) == len(other_ME)
  draws = np.random.RandomState(seed)
  found = []
  for _ in range(1 if whole else subsets):
    one_SD = one_ND[draws.choice(len(one_ND), size, replace=False)].astype(np.float64)
    other_SD = other_ME[draws.choice(len(other_ME), size, replace=False)].astype(np.float64)
    found.append(_mmd(one_SD, other_SD))
  std = None if whole else float(np.std(found))
  return Distance(mean=float(np.mean(found)), std=std, subsets=len(found), subset_size=size)


def _mmd(one_SD: np.ndarray, other_SD: np.ndarray) -> float:
  size = len(one_SD)
  within = _kernel(one_SD, one_SD) + _kernel(other_SD, other_SD)
  across = _kernel(one_SD, other_SD).sum()
  return float((within.sum() - np.trace(within)) / (size * (size - 1)) - 2 * across / size**2)


def _kernel(one_SD: np.ndarray, other_SD: np.ndarray) -> np.ndarray:
  return (one_SD @ other_SD.T / one_SD.shape[1] + 1) ** 3
