"""Near misses: words exchanged for those that stand in the same places, and nothing else."""

import numpy as np
import pytest

from dalle_jax.data import near_misses

A, ON, RED, BLUE, BOX, DISC, WHITE, GRAY, ALONE = range(9)
VOCAB, LENGTH = 9, 8
# "a red box on white", in every combination; and one word that is never seen beside another.
CAPTIONS = [[A, colour, shape, ON, back] for colour in (RED, BLUE) for shape in (BOX, DISC) for back in (WHITE, GRAY)]
KINDS = [{RED, BLUE}, {BOX, DISC}, {WHITE, GRAY}]


@pytest.fixture(scope="module")
def learnt():
  return near_misses.learn([*CAPTIONS, [ALONE]], VOCAB)


def padded(tokens):
  return np.array([*tokens, *range(VOCAB + len(tokens), VOCAB + LENGTH)], np.int32)


def test_words_of_a_kind_stand_for_each_other_and_no_others(learnt):
  assert {token: set(others.tolist()) for token, (others, _) in learnt.substitutes.items()} == {
    token: kind - {token} for kind in KINDS for token in kind
  }
  for _, shares in learnt.substitutes.values():
    assert shares.sum() == pytest.approx(1)


def test_in_each_one_word_is_exchanged_and_the_rest_stays(learnt):
  changed = set()
  for seed in range(100):
    text_T = padded(CAPTIONS[seed % 8])
    before_T = text_T.copy()
    missed_MT = learnt.of(text_T, np.random.default_rng(seed))
    np.testing.assert_array_equal(text_T, before_T)
    assert (missed_MT.dtype, missed_MT.shape) == (text_T.dtype, (near_misses.EACH, *text_T.shape))
    for missed_T in missed_MT:
      assert missed_T[:5].tolist() in CAPTIONS
      [i] = np.flatnonzero(missed_T != text_T)
      changed.add(int(i))
  assert changed == {1, 2, 4}


def test_a_caption_without_substitutes_stays_as_it_is(learnt):
  for tokens in ([ALONE], []):
    missed_MT = learnt.of(padded(tokens), np.random.default_rng(0))
    np.testing.assert_array_equal(missed_MT, [padded(tokens)] * near_misses.EACH)


def test_likelier_substitutes_are_those_that_share_more_places():
  """BOX and DISC stand on both backgrounds, RED only beside one of them."""
  captions = [[A, BOX, ON], [A, DISC, ON], [A, BOX, WHITE], [A, DISC, WHITE], [A, RED, WHITE], [A, RED, GRAY]]
  others, shares = near_misses.learn(captions, VOCAB).substitutes[BOX]
  assert others.tolist() == [DISC, RED]
  assert shares[0] == pytest.approx(1 / 1.5)  # cosines 1 and 1/2


def test_of_no_captions_nothing_is_learnt():
  assert near_misses.learn([], VOCAB).substitutes == {}


def test_the_same_generator_misses_the_same(learnt):
  text_T = padded(CAPTIONS[0])
  first, again = (learnt.of(text_T, np.random.default_rng(7)) for _ in range(2))
  np.testing.assert_array_equal(first, again)
