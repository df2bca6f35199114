"""Frechet distance of two sets of pictures' features, each taken for a Gaussian (Heusel et al. 2017: FID).

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))

Means and covariances are gathered chunk by chunk in float64, and those of parts merge into those of the whole, so the
features themselves need not be kept. The root's trace is that of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2), by
eigenvalues: no complex numbers, and a singular covariance, of fewer pictures than dimensions, needs nothing added to it
(pytorch-fid adds 1e-6 to the diagonals where its general root fails).

N pictures, D E dimensions, which must be as many.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from dalle_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
  """pictures: N; scatter_DD: sum of the outer products of what each feature vector is from the mean; float64."""

  pictures: int
  mean_D: Float[np.ndarray, " D"]
  scatter_DD: Float[np.ndarray, "D D"]

  @property
  def dim(self) -> int:
    return len(self.mean_D)

  @property
  def covariance_DD(self) -> Float[np.ndarray, "D D"]:
    """Unbiased: divided by N - 1. Raises UserError for fewer than two pictures."""
    if self.pictures < 2:
      raise UserError(f"{self.pictures} pictures have no covariance: at least 2 are wanted")
    return self.scatter_DD / (self.pictures - 1)

  def __add__(self, other: "Statistics") -> "Statistics":
    """Those of both sets together (Chan et al. 1979). Raises ValueError where they differ in dimensions."""
    if self.dim != other.dim:
      raise ValueError(f"features of {self.dim} and of {other.dim} numbers do not merge")
    pictures = self.pictures + other.pictures
    if not pictures:
      return self
    shift_D, part = other.mean_D - self.mean_D, other.pictures / pictures
    return Statistics(
      pictures=pictures,
      mean_D=self.mean_D + part * shift_D,
      scatter_DD=self.scatter_DD + other.scatter_DD + self.pictures * part * np.outer(shift_D, shift_D),
    )


def nothing(dim: int) -> Statistics:
  """Of no pictures: where adding up begins."""
  return Statistics(pictures=0, mean_D=np.zeros(dim), scatter_DD=np.zeros((dim, dim)))


def of(features_ND: Float[np.ndarray, "N D"]) -> Statistics:
  """Those of one chunk of at least one picture. Raises UserError where a feature is not finite."""
  x_ND = features_ND.astype(np.float64)
  if not np.isfinite(x_ND).all():
    raise UserError("some features are not finite: the feature network's weights are damaged, or of another network")
  mean_D = x_ND.mean(axis=0)
  centred_ND = x_ND - mean_D[None]
  return Statistics(pictures=len(x_ND), mean_D=mean_D, scatter_DD=centred_ND.T @ centred_ND)


def distance(
  mean1_D: Float[np.ndarray, " D"],
  covariance1_DD: Float[np.ndarray, "D D"],
  mean2_E: Float[np.ndarray, " E"],
  covariance2_EE: Float[np.ndarray, "E E"],
) -> float:
  """The squared Frechet distance. Raises UserError where the two are of other dimensions."""
  if mean1_D.shape != mean2_E.shape or covariance1_DD.shape != covariance2_EE.shape:
    raise UserError(f"features of {len(mean1_D)} numbers can't be compared with features of {len(mean2_E)}")
  apart_D = mean1_D - mean2_E
  spread = np.trace(covariance1_DD) + np.trace(covariance2_EE)
  return float(apart_D @ apart_D + spread - 2 * _trace_of_root(covariance1_DD, covariance2_EE))


def between(one: Statistics, other: Statistics) -> float:
  """The distance of two sets of pictures."""
  return distance(one.mean_D, one.covariance_DD, other.mean_D, other.covariance_DD)


def caveat(pictures: int, dim: int, what: str = "fid") -> str | None:
  """One line where so few pictures say little about so many dimensions, None where there are enough.

  what: the figure's name; of fid it says what to take instead.
  """
  if pictures < dim + 1:
    fewer = ", or --features 64" if dim > 64 else ""
    instead = f": take kid, which is unbiased at any number{fewer}" if what == "fid" else ""
    return (
      f"{what} of {pictures} pictures means nothing, as the covariance of {dim} features wants {dim + 1} at least, and "
      f"10,000 for figures that compare{instead}"
    )
  if pictures < 10_000:
    return f"{what} of {pictures} pictures is too high by a bias that falls as 1/N: compare it at this number alone"
  return None


def _trace_of_root(a_DD: np.ndarray, b_DD: np.ndarray) -> float:
  """tr((A B)^(1/2)) of two positive semi-definite matrices; eigenvalues that rounding made negative count as 0."""
  values_D, vectors_DD = np.linalg.eigh((a_DD + a_DD.T) / 2)
  root_DD = vectors_DD * np.sqrt(values_D.clip(0))[None]
  return float(np.sqrt(np.linalg.eigvalsh(root_DD.T @ ((b_DD + b_DD.T) / 2) @ root_DD).clip(0)).sum())
