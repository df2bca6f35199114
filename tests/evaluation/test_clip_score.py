import numpy as np
import pytest

from dalle_jax.evaluation.clip_score import clip_score
from dalle_jax.evaluation.mean_interval import mean_of


def vectors(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_the_score_is_the_mean_of_cosines_in_hundredths_that_are_not_below_zero():
  pictures, captions = np.array([[[3.0, 4.0]], [[1.0, 0.0]]], np.float32), np.array([[1.0, 0], [-2.0, 0]], np.float32)
  found = clip_score(pictures, captions)
  assert found.cosine.mean == pytest.approx((0.6 - 1) / 2)
  assert found.score.mean == pytest.approx(30)
  assert (found.captions, found.pictures, found.negative) == (2, 2, 1)


def test_the_length_of_vectors_does_not_count():
  pictures, captions = vectors(5, 3, 8), vectors(5, 8, seed=1)
  found, longer = clip_score(pictures, captions), clip_score(7 * pictures, captions / 3)
  assert found.score.mean == pytest.approx(longer.score.mean, rel=1e-6)


def test_a_caption_counts_once_however_many_pictures_it_has():
  # Copies of a picture tell nothing new: the interval stays as wide.
  pictures, captions = vectors(40, 1, 8), vectors(40, 8, seed=1)
  once, often = clip_score(pictures, captions), clip_score(np.repeat(pictures, 9, axis=1), captions)
  assert once.cosine.high - once.cosine.low == pytest.approx(often.cosine.high - often.cosine.low)
  assert (once.pictures, often.pictures) == (40, 360)


def test_vectors_without_direction_are_an_error():
  pictures, captions = vectors(4, 2, 8), vectors(4, 8)
  for spoilt in (0, np.nan):
    pictures[1, 1] = spoilt
    with pytest.raises(ValueError, match="no direction"):
      clip_score(pictures, captions)


def test_the_interval_holds_the_mean_nineteen_times_in_twenty():
  rng = np.random.default_rng(0)
  inside = []
  for _ in range(2000):
    found = mean_of(rng.exponential(2.0, 60))
    inside.append(found.low <= 2.0 <= found.high)
    assert found.low < found.mean < found.high
  assert 0.92 < np.mean(inside) < 0.965
  assert mean_of(np.ones(5)).low == mean_of(np.ones(5)).high == 1
  with pytest.raises(ValueError, match="at least 2"):
    mean_of(np.ones(1))
