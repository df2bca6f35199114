"""Nearest neighbours by cosine, against SciPy's whole table of distances."""

import weakref

import numpy as np
import pytest
from scipy.spatial import distance

from dalle_jax.evaluation import neighbours

RNG = np.random.default_rng(0)
ASKED_BE, AMONG_NE = (RNG.normal(size=(count, 12)).astype(np.float32) for count in (9, 50))


def parts(vectors_NE, size):
  return (vectors_NE[i : i + size] for i in range(0, len(vectors_NE), size))


@pytest.mark.parametrize("size", [1, 7, 16, 50])
@pytest.mark.parametrize("count", [1, 4])
def test_they_are_those_of_scipys_whole_table(size, count):
  cosine_BN = 1 - distance.cdist(ASKED_BE.astype(float), AMONG_NE.astype(float), "cosine")
  order_BK = np.argsort(-cosine_BN, axis=1)[:, :count]
  found = neighbours.nearest(ASKED_BE, parts(AMONG_NE, size), count)
  np.testing.assert_array_equal(found.row_BK, order_BK)
  np.testing.assert_allclose(found.cosine_BK, np.take_along_axis(cosine_BN, order_BK, axis=1), atol=1e-6)


def test_lengths_do_not_count():
  long_NE = AMONG_NE * RNG.uniform(0.01, 100, (50, 1)).astype(np.float32)
  plain, long = (neighbours.nearest(ASKED_BE, parts(each, 8), 3) for each in (AMONG_NE, long_NE))
  assert not np.allclose(AMONG_NE, long_NE)
  np.testing.assert_array_equal(plain.row_BK, long.row_BK)
  np.testing.assert_allclose(plain.cosine_BK, long.cosine_BK, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_of_equal_ones_the_earlier_comes_first(size):
  same_NE = np.repeat(ASKED_BE[:1], 6, axis=0)
  found = neighbours.nearest(ASKED_BE[:1], parts(same_NE, size), 4)
  assert found.row_BK.tolist() == [[0, 1, 2, 3]]


def test_fewer_than_were_wanted_are_all_there_are():
  found = neighbours.nearest(ASKED_BE, parts(AMONG_NE[:3], 2), 5)
  assert sorted(found.row_BK[0].tolist()) == [0, 1, 2]
  assert found.cosine_BK.shape == (9, 3)


def test_parts_are_let_go_of():
  seen, alive = [], []

  def one_after_the_other():
    for begin in range(0, 50, 10):
      part_NE = AMONG_NE[begin : begin + 10].copy()
      seen.append(weakref.ref(part_NE))
      alive.append(sum(each() is not None for each in seen))
      yield part_NE

  neighbours.nearest(ASKED_BE, one_after_the_other(), 1)
  assert len(seen) == 5
  assert max(alive) <= 2  # the part before is let go of when the next one is there


def test_a_vector_of_zeros_is_like_nothing():
  found = neighbours.nearest(np.zeros((1, 12), np.float32), parts(AMONG_NE, 10), 2)
  assert found.cosine_BK.tolist() == [[0.0, 0.0]]


def test_what_is_no_number_and_what_is_empty_are_refused():
  broken_NE = AMONG_NE.copy()
  broken_NE[3, 1] = np.nan
  with pytest.raises(ValueError, match="not finite"):
    neighbours.nearest(ASKED_BE, parts(broken_NE, 10), 2)
  with pytest.raises(ValueError, match="no vector to look among"):
    neighbours.nearest(ASKED_BE, iter(()), 2)
