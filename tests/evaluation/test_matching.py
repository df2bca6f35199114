import itertools

import numpy as np
import pytest

from dalle_jax.evaluation import matching
from dalle_jax.evaluation.matching import Matched


def test_the_rank_counts_what_does_not_belong_and_scores_as_high():
  scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [1.0, 5.0, 9.0]])
  right = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0]], bool)
  np.testing.assert_array_equal(matching.ranks(scores, right), [1, 3, 2, 2])


def test_a_model_that_finds_all_alike_finds_nothing():
  found = matching.match(np.zeros((4, 4)), np.zeros(4), np.eye(4, dtype=bool))
  assert [row.top(1).rate for row in found] == [0, 0, 0, 0]


def test_the_difference_and_bayes_rule_find_what_a_likely_picture_hides():
  own = np.log(np.array([[0.5, 0.3], [0.01, 0.02]]))  # picture 0 is likely with any caption
  found = matching.match(own, np.log(np.array([0.4, 0.012])), np.eye(2, dtype=bool))
  named = {(row.direction, row.by): row.top(1).rate for row in found}
  assert named == {
    ("picture to caption", "likelihood"): 1,
    ("caption to picture", "likelihood"): 0.5,
    ("caption to picture", "difference"): 1,
    ("caption to picture", "Bayes' rule"): 1,
  }


@pytest.mark.parametrize("most", [1, 2, 5])
def test_chance_is_the_share_of_all_orders(most):
  belong, candidates = np.array([1, 2]), 5
  orders = list(itertools.permutations(range(candidates)))
  expected = np.mean([[min(order[:most]) < count for order in orders] for count in belong])
  row = Matched(direction="", by="", ranks_Q=np.array([1, 3]), belong_Q=belong, candidates=candidates)
  assert row.chance(most) == pytest.approx(expected)
  assert row.top(2).rate == 0.5
