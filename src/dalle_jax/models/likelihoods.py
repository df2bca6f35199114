"""What the decoder's six statistics of a pixel mean: densities of mapped pixels (paper 2.2, A.3).

    LogitLaplace   1 / (2 b x (1-x)) exp(-|logit(x) - mu| / b)     on (0, 1): the published one
    Laplace        1 / (2 b) exp(-|x - sigmoid(mu)| / b)           on all numbers: an l1 error, with its scale
    Gaussian       1 / (b √2π) exp(-(x - sigmoid(mu))² / 2b²)      on all numbers: an l2 error, with its scale

mu are the first three channels, ln b the last three. All are densities of the same x in (0.1, 0.9), so that their
negative logarithms compare; and the median of each is sigmoid(mu), so that `dvae.reconstruct` serves all three. The
last two are the likelihoods that the paper argues against, because of the mass that they give to what is no pixel.

B batch, H W pixels, C channels, S a pixel's six statistics.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dalle_jax.models.dvae import PIXEL_MARGIN, logit_laplace_nll

RANGE = (PIXEL_MARGIN, 1 - PIXEL_MARGIN)  # of mapped pixels


@dataclasses.dataclass(frozen=True)
class LogitLaplace:
  """The paper's."""

  def nll(self, x_BHWC: Float[Array, "B H W 3"], stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
    """Negative log-density in nats a sub-pixel."""
    return logit_laplace_nll(x_BHWC, stats_BHWS)

  def outside(self, stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
    """The share of the mass beyond the range of pixels."""
    mu_BHWC, log_b_BHWC = jnp.split(stats_BHWS, 2, axis=-1)
    low, high = (math.log(x / (1 - x)) for x in RANGE)
    return _outside(_laplace_tail, low, high, mu_BHWC, log_b_BHWC)


@dataclasses.dataclass(frozen=True)
class Laplace:
  """An l1 error of mapped pixels, whose scale is learned."""

  def nll(self, x_BHWC: Float[Array, "B H W 3"], stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
    """Negative log-density in nats a sub-pixel."""
    middle_BHWC, log_b_BHWC = _middle_and_scale(stats_BHWS)
    return math.log(2) + log_b_BHWC + jnp.abs(x_BHWC - middle_BHWC) * jnp.exp(-log_b_BHWC)

  def outside(self, stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
    """The share of the mass beyond the range of pixels."""
    return _outside(_laplace_tail, *RANGE, *_middle_and_scale(stats_BHWS))


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """An l2 error of mapped pixels, whose scale is learned."""

  def nll(self, x_BHWC: Float[Array, "B H W 3"], stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
    """Negative log-density in nats a sub-pixel."""
    middle_BHWC, log_b_BHWC = _middle_and_scale(stats_BHWS)
    distance_BHWC = (x_BHWC - middle_BHWC) * jnp.exp(-log_b_BHWC)
    return math.log(2 * math.pi) / 2 + log_b_BHWC + jnp.square(distance_BHWC) / 2

  def outside(self, stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
    """The share of the mass beyond the range of pixels."""
    return _outside(lambda z: jax.scipy.special.erfc(z / math.sqrt(2)) / 2, *RANGE, *_middle_and_scale(stats_BHWS))


Likelihood = LogitLaplace | Laplace | Gaussian


def _middle_and_scale(stats_BHWS: Array) -> tuple[Array, Array]:
  mu_BHWC, log_b_BHWC = jnp.split(stats_BHWS, 2, axis=-1)
  return jax.nn.sigmoid(mu_BHWC), log_b_BHWC


def _outside(tail: Callable[[Array], Array], low: float, high: float, middle_BHWC: Array, log_b_BHWC: Array) -> Array:
  """tail: the mass beyond so many scales from the middle."""
  per_scale_BHWC = jnp.exp(-log_b_BHWC)
  return tail((high - middle_BHWC) * per_scale_BHWC) + tail((middle_BHWC - low) * per_scale_BHWC)


def _laplace_tail(z: Array) -> Array:
  half = jnp.exp(-jnp.abs(z)) / 2
  return jnp.where(z > 0, half, 1 - half)
