import numpy as np
import pytest

from dalle_jax.evaluation import retrieval
from dalle_jax.evaluation.retrieval import Retrieved


def pictures(count, side, seed):
  return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [32, 64])
def test_the_rank_counts_the_candidates_that_are_nearer(side):
  drawn, pool, true = pictures(4, side, 0), pictures(30, side, 1), np.array([3, 0, 29, 3])
  average = lambda x: x.reshape(32, side // 32, 32, side // 32, 3).mean((1, 3))  # noqa: E731
  expected = []
  for image, own in zip(drawn, true):
    distance = [np.square(average(image.astype(float)) - average(other.astype(float))).sum() for other in pool]
    expected.append(1 + sum(d < distance[own] for d in distance))
  # At 64 pixels the averages are rounded to whole levels, which may swap two candidates that are almost as near.
  np.testing.assert_allclose(retrieval.ranks(drawn, pool, true), expected, atol=0 if side == 32 else 1)
  assert len(set(expected)) > 1


def test_a_picture_drawn_exactly_comes_first():
  pool = pictures(20, 48, 2)
  np.testing.assert_array_equal(retrieval.ranks(pool[[4, 7]], pool, np.array([4, 7])), [1, 1])


def test_a_rank_of_ten_is_among_the_ten_nearest():
  found = Retrieved(split="train", pictures="best of 32 by CLIP", ranks_C=np.array([1, 10, 11, 400]), candidates=500)
  assert found.within().rate == 0.5
  assert found.within(1).rate == 0.25
  assert found.chance() == 10 / 500
  assert "50.0 %" in retrieval.as_text([found])
  assert "chance 2.00 %" in retrieval.as_text([found])
