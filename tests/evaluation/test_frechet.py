"""Gaussian statistics by chunks, and their distance, beside NumPy's covariance, closed forms and SciPy's root."""

import numpy as np
import pytest
import scipy.linalg

from dalle_jax.errors import UserError
from dalle_jax.evaluation import frechet


def features(seed, pictures=50, dim=7, at=0.0):
  return (np.random.default_rng(seed).standard_normal((pictures, dim)) * np.arange(1, dim + 1) + at).astype(np.float32)


@pytest.mark.parametrize("cuts", [[], [1], [20, 49], [10, 10, 30]])
def test_chunks_have_the_statistics_of_the_whole(cuts):
  x_ND = features(0, at=1e4)
  parts = [part for part in np.split(x_ND, cuts) if len(part)]
  found = sum((frechet.of(part) for part in parts), frechet.nothing(7))
  assert found.pictures == 50
  np.testing.assert_allclose(found.mean_D, x_ND.astype(float).mean(axis=0), rtol=1e-14)
  np.testing.assert_allclose(found.covariance_DD, np.cov(x_ND.astype(float), rowvar=False), rtol=1e-9)


def test_parts_merge_in_any_order():
  one, two, three = (frechet.of(features(seed, at=seed)) for seed in range(3))
  left, right = (one + two) + three, one + (three + two)
  np.testing.assert_allclose(left.covariance_DD, right.covariance_DD, rtol=1e-12)


def test_of_diagonal_covariances_the_distance_is_known():
  a_D, b_D = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.0])
  means = np.array([1.0, 0, 0]), np.array([0.0, 2, 0])
  wanted = 1 + 4 + np.square(np.sqrt(a_D) - np.sqrt(b_D)).sum()
  assert frechet.distance(means[0], np.diag(a_D), means[1], np.diag(b_D)) == pytest.approx(wanted, rel=1e-12)


def test_the_distance_is_that_of_scipys_root():
  one, other = frechet.of(features(1)), frechet.of(features(2) @ np.triu(np.ones((7, 7), np.float32)))
  root = scipy.linalg.sqrtm(one.covariance_DD @ other.covariance_DD)
  apart_D = one.mean_D - other.mean_D
  wanted = apart_D @ apart_D + np.trace(one.covariance_DD + other.covariance_DD - 2 * root.real)
  assert wanted > 1
  assert frechet.between(one, other) == pytest.approx(wanted, rel=1e-9)
  assert frechet.between(other, one) == pytest.approx(wanted, rel=1e-9)


def test_of_fewer_pictures_than_dimensions_a_set_is_at_no_distance_from_itself():
  few = frechet.of(features(3, pictures=3))
  assert np.linalg.matrix_rank(few.covariance_DD) == 2
  assert abs(frechet.between(few, few)) < 1e-5 * np.trace(few.covariance_DD)


def test_what_can_not_be_compared_is_told():
  with pytest.raises(UserError, match="features of 7 numbers can't be compared with features of 3"):
    frechet.between(frechet.of(features(0)), frechet.of(features(0, dim=3)))
  with pytest.raises(UserError, match="1 pictures have no covariance"):
    _ = frechet.of(features(0, pictures=1)).covariance_DD
  with pytest.raises(UserError, match="not finite"):
    frechet.of(np.full((2, 3), np.nan, np.float32))
  with pytest.raises(ValueError, match="do not merge"):
    frechet.nothing(3) + frechet.nothing(4)


def test_few_pictures_are_told_and_many_are_not():
  assert "means nothing, as the covariance of 2048 features wants 2049 at least" in frechet.caveat(2048, 2048)
  assert frechet.caveat(2048, 2048).endswith("take kid, which is unbiased at any number, or --features 64")
  assert frechet.caveat(64, 64).endswith("take kid, which is unbiased at any number")
  assert frechet.caveat(100, 128, "fd_clip").startswith("fd_clip of 100 pictures means nothing")
  assert "kid" not in frechet.caveat(100, 128, "fd_clip")
  assert "bias" in frechet.caveat(2049, 2048)
  assert frechet.caveat(10_000, 2048) is None
