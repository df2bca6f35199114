import subprocess
import sys

import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes.catalogue import SUITES, find
from dalle_jax.evaluation.probes.subset import subset

(SHAPE,), (COUNTRIES,) = find(["shape"]), find(["countries"])


def texts(suite, limit, seed):
  return [caption.text for caption in subset(suite, limit, seed)]


def test_the_same_seed_chooses_the_same_captions_in_another_process_too():
  script = (
    "from dalle_jax.evaluation.probes.catalogue import find\n"
    "from dalle_jax.evaluation.probes.subset import subset\n"
    "print('\\n'.join(caption.text for caption in subset(find(['shape'])[0], 12, 3)))"
  )
  said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
  assert said.splitlines() == texts(SHAPE, 12, 3) == texts(SHAPE, 12, 3)


def test_another_seed_chooses_others_and_every_caption_by_some_seed():
  assert texts(SHAPE, 12, 0) != texts(SHAPE, 12, 1)
  seen = {text for seed in range(300) for text in texts(SHAPE, 12, seed)}
  assert seen == {caption.text for caption in SHAPE.captions()}


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_as_many_are_chosen_as_asked_for_in_the_suites_order(suite):
  places = {caption.text: place for place, caption in enumerate(suite.captions())}
  assert len(places) == len(tuple(suite.captions()))
  for limit in (1, 7, 12, 13):
    chosen = [places[text] for text in texts(suite, limit, 0)]
    assert len(chosen) == len(set(chosen)) == min(limit, len(places))
    assert chosen == sorted(chosen)


def test_all_are_chosen_where_there_are_no_more():
  assert texts(SHAPE, 10_000, 0) == texts(SHAPE, 378, 0) == [caption.text for caption in SHAPE.captions()]


def test_most_words_can_be_changed_with_the_others_as_they_are():
  # 12 captions are 3 x 2 x 2 words of the three slots.
  chosen = subset(SHAPE, 12, 0)
  for at, count in enumerate(sorted((3, 2, 2), reverse=True)):
    by_others = {}
    for caption in chosen:
      others = (*caption.words[:at], *caption.words[at + 1 :])
      by_others.setdefault(others, set()).add(caption.words[at])
    assert {len(words) for words in by_others.values()} == {count}


def test_what_does_not_make_up_a_block_is_filled_from_all_others():
  assert len(subset(COUNTRIES, 13, 0)) == 13
  extra = {texts(COUNTRIES, 13, seed)[0] for seed in range(20)}
  assert len(extra) > 5


def test_each_wording_has_its_share():
  (suite,) = find(["im2im_animal"])
  counts = [sum(caption.template is each for caption in subset(suite, 12, 0)) for each in suite.templates]
  assert counts == [5, 5, 2]  # there are no more than 2 of the last


@pytest.mark.parametrize("limit", [0, -3])
def test_no_captions_at_all_are_refused(limit):
  with pytest.raises(UserError, match="wanted at least 1"):
    subset(SHAPE, limit, 0)
