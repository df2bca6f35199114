"""KID beside its definition, pair by pair, and what it is of sets that are alike."""

import itertools

import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation import kid


def sets(sizes=(9, 9), dim=4, apart=0.5):
  rng = np.random.default_rng(0)
  return [rng.standard_normal((size, dim)) + apart * i for i, size in enumerate(sizes)]


def test_whole_sets_have_the_unbiased_estimate_of_the_definition():
  one_ND, other_ND = sets()
  kernel = lambda x, y: (x @ y / 4 + 1) ** 3  # noqa: E731
  within = [np.mean([kernel(x, y) for x, y in itertools.permutations(each, 2)]) for each in (one_ND, other_ND)]
  across = np.mean([kernel(x, y) for x, y in itertools.product(one_ND, other_ND)])
  found = kid.distance(one_ND, other_ND)
  assert found.mean == pytest.approx(sum(within) - 2 * across, rel=1e-12)
  assert (found.std, found.subsets, found.subset_size) == (None, 1, 9)


def test_it_is_unbiased_at_any_number():
  rng = np.random.default_rng(1)
  small = [kid.distance(*rng.standard_normal((2, 5, 3))).mean for _ in range(2000)]
  assert abs(np.mean(small)) < 4 * np.std(small) / np.sqrt(len(small))


def test_subsets_are_as_large_as_the_smaller_set_allows():
  one_ND, other_ND = sets(sizes=(30, 12))
  found = kid.distance(one_ND, other_ND, subsets=7, subset_size=20)
  assert (found.subsets, found.subset_size) == (7, 12)
  assert found.std > 0
  assert found == kid.distance(one_ND, other_ND, subsets=7, subset_size=20)


def test_what_has_no_kid_is_told():
  one_ND, other_ND = sets()
  with pytest.raises(UserError, match="at least one subset of two pictures, got 100 of 1"):
    kid.distance(one_ND[:1], other_ND)
  with pytest.raises(UserError, match="features of 4 numbers can't be compared with features of 3"):
    kid.distance(one_ND, other_ND[:, :3])
