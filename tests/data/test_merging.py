"""Pairs joined in the order learnt."""

from dalle_jax.data.merging import merged


def test_the_pair_learnt_first_is_joined_first_and_the_leftmost_of_equals():
  a, b, ab, bb, aa = range(5)
  assert merged([a, b, b], {(a, b): (0, ab), (b, b): (1, bb)}) == [ab, b]
  assert merged([a, b, b], {(a, b): (1, ab), (b, b): (0, bb)}) == [a, bb]
  assert merged([a, a, a], {(a, a): (0, aa)}) == [aa, a]


def test_what_was_joined_is_joined_further_on_both_sides():
  rules = {(1, 2): (0, 12), (0, 12): (1, 112), (112, 3): (2, 1123), (2, 3): (3, 23)}
  assert merged([0, 1, 2, 3], rules) == [1123]
  assert merged([9, 1, 2, 3], rules) == [9, 12, 3]


def test_nothing_and_what_no_rule_knows_stay_as_they_are():
  assert merged([], {(1, 2): (0, 3)}) == []
  assert merged([2, 1], {(1, 2): (0, 3)}) == [2, 1]
