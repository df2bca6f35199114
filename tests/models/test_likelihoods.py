"""The likelihoods of pixels against SciPy's distributions."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from dalle_jax.models import dvae
from dalle_jax.models.likelihoods import Gaussian, Laplace, LogitLaplace

RNG = np.random.default_rng(0)
X = RNG.uniform(0.1, 0.9, (2, 4, 4, 3)).astype(np.float32)
MU, LOG_B = (RNG.normal(0, 1.5, X.shape).astype(np.float32) for _ in range(2))
STATS = jnp.asarray(np.concatenate([MU, LOG_B], axis=-1))
B = np.exp(LOG_B.astype(np.float64))
MIDDLE = special.expit(MU.astype(np.float64))

# The density of pixels, and the mass up to a place, by SciPy.
THEIRS = {
  LogitLaplace: (
    lambda x: stats.laplace.logpdf(special.logit(x), MU, B) - np.log(x) - np.log1p(-x),
    lambda x: stats.laplace.cdf(special.logit(x), MU, B),
  ),
  Laplace: (lambda x: stats.laplace.logpdf(x, MIDDLE, B), lambda x: stats.laplace.cdf(x, MIDDLE, B)),
  Gaussian: (lambda x: stats.norm.logpdf(x, MIDDLE, B), lambda x: stats.norm.cdf(x, MIDDLE, B)),
}


def test_they_are_three_different_densities():
  found = [np.asarray(kind().nll(jnp.asarray(X), STATS)) for kind in THEIRS]
  assert min(np.abs(found[i] - found[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.5


@pytest.mark.parametrize("kind", THEIRS)
def test_the_density_is_scipy_s(kind):
  log_density, _ = THEIRS[kind]
  np.testing.assert_allclose(
    kind().nll(jnp.asarray(X), STATS), -log_density(X.astype(np.float64)), rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize("kind", THEIRS)
def test_the_mass_on_no_pixel_is_scipy_s(kind):
  _, mass = THEIRS[kind]
  expected = 1 - mass(0.9) + mass(0.1)
  assert expected.min() < 0.2 < 0.8 < expected.max()
  np.testing.assert_allclose(kind().outside(STATS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", THEIRS)
def test_half_of_the_mass_is_below_the_point_that_is_drawn(kind):
  _, mass = THEIRS[kind]
  drawn = special.expit(MU.astype(np.float64))
  np.testing.assert_allclose(mass(drawn), 0.5, atol=1e-9)
  clipped = np.clip((drawn - 0.1) / 0.8, 0, 1)
  np.testing.assert_allclose(dvae.reconstruct(STATS), clipped, atol=1e-6)
