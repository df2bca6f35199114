"""Sheets of drawn pictures: the word that a model looks at is the one that is hot, in the file that the page links."""

import numpy as np
import pytest
import toy_drawer

from dalle_jax import attention_maps
from dalle_jax.evaluation import attention_sheet
from dalle_jax.sampling.gallery import Sample


def sample(caption):
  image = np.full((8, 8, 3), 128, np.uint8)
  return Sample(
    caption=caption, caption_number=0, sample=0, seed=0, codes_N=np.zeros(16, np.int32), score=None, image_HWC=image
  )


@pytest.mark.parametrize(("spaces", "length"), [(False, 8), (True, 14)])
def test_the_word_that_is_looked_at_is_hot(monkeypatch, spaces, length):
  words, told, drawn = toy_drawer.tokenizer(length, spaces), [], []
  (cube,) = words.encode("cube")
  model = toy_drawer.looks_at(toy_drawer.drawer(length, mix=("full",), layers=1), cube)
  sheet = attention_sheet.sheet
  monkeypatch.setattr(attention_sheet, "sheet", lambda *given: drawn.append(given) or sheet(*given))
  (made,) = attention_maps.sheets(model, words, lambda: told.append(1))([sample("A red CUBE on the left")])
  (_, read, (row,)) = drawn[0]
  assert read == ["a", "red", "cube", "on", "the", "left"]
  assert (row.by_word_NW[:, 2] > 0.99).all()
  assert row.words > 0.99
  assert made.width > 4 * attention_sheet.TILE
  assert told == [1]


def test_words_past_the_window_are_left_out_and_a_cut_one_keeps_what_is_read():
  words = toy_drawer.tokenizer(6)
  assert attention_maps._read(words, "a red cube on greenish rings") == [
    ("a", [0]),
    ("red", [1]),
    ("cube", [2]),
    ("on", [3]),
    ("greenish", [4]),
  ]
