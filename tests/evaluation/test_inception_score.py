"""The Inception Score of logits whose score is known."""

import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation import inception_score


def test_pictures_that_are_all_alike_score_one():
  logits_NK = np.tile(np.random.default_rng(0).standard_normal(9), (40, 1))
  found = inception_score.score(logits_NK)
  assert (found.mean, found.std) == (pytest.approx(1), pytest.approx(0))
  assert (found.parts, found.pictures) == (10, 40)


def test_sure_and_different_pictures_score_the_number_of_classes():
  # 1e3 between the logits: probabilities that are zero in float64 do no harm.
  assert inception_score.score(1e3 * np.eye(8), parts=1).mean == pytest.approx(8)


def test_a_part_is_exp_of_the_mean_divergence():
  p_NK = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
  q_K = p_NK.mean(axis=0)
  wanted = np.exp((p_NK * np.log(p_NK / q_K)).sum(axis=1).mean())
  assert inception_score.score(np.log(p_NK), parts=1).mean == pytest.approx(wanted, rel=1e-12)


def test_fewer_pictures_than_parts_are_refused():
  with pytest.raises(UserError, match="in 10 parts wants as many pictures, got 4"):
    inception_score.score(np.zeros((4, 3)))
