"""Which font draws a word; each is Matplotlib's, so the tests hold on a machine with no fonts of its own."""

from unicodedata import category

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dalle_jax.evaluation import attention_sheet, fonts

FIRST, OTHER = fonts.matplotlibs(fonts.BOLD), fonts.matplotlibs("STIXGeneral.ttf")
LACKED = next(
  chr(i) for i in sorted(fonts.letters(OTHER) - fonts.letters(FIRST)) if category(chr(i)) in ("Lo", "So", "Sm")
)
NOBODY = "\U0003fffd"  # in a plane that holds no letters


def drawn(text, file):
  image = Image.new("L", (40, 40), 255)
  ImageDraw.Draw(image).text((4, 4), text, font=fonts.sized(file, 20))
  return np.asarray(image)


@pytest.mark.parametrize("text", ["a dog", "Straße", "ёж", ""])
def test_letters_that_the_first_font_has_ask_for_no_other(text):
  def asked():
    raise AssertionError("the machine's fonts were asked for")
    yield

  assert fonts.for_text(text, FIRST, asked()) == (FIRST, True)


def test_letters_that_it_lacks_are_drawn_by_one_that_has_them_all():
  box = drawn(NOBODY, FIRST)
  assert np.array_equal(drawn(LACKED, FIRST), box)
  broken = FIRST.with_name("no-such-font.ttf")
  found, drawable = fonts.for_text(LACKED + "a", FIRST, [broken, FIRST, OTHER])
  assert (found, drawable) == (OTHER, True)
  assert not np.array_equal(drawn(LACKED, found), drawn(NOBODY, found))


def test_letters_that_no_font_has_are_left_to_the_first_and_told():
  assert fonts.for_text(NOBODY, FIRST, [OTHER]) == (FIRST, False)


def test_every_installed_font_that_is_said_to_have_letters_can_be_used_at_a_small_size():
  assert FIRST in fonts.installed()
  for file in fonts.installed():
    if fonts.letters(file):
      assert fonts.sized(file, 12).size == 12


def test_a_sheet_says_that_boxes_are_letters_only_where_there_are_some():
  row = attention_sheet.Row(name="one", by_word_NW=np.full((4, 1), 0.1), start=0.1, rest=0.1)
  image = np.full((8, 8, 3), 200, np.uint8)
  plain, boxed = (np.asarray(attention_sheet.sheet(image, [word], [row])) for word in ("dog", NOBODY))
  top = slice(0, attention_sheet.TILE + attention_sheet.MARGIN)
  assert not np.array_equal(plain[top], boxed[top])
  again = np.asarray(attention_sheet.sheet(image, ["cat"], [row]))
  assert not np.array_equal(plain, again)
  assert np.array_equal(plain[top], again[top])
