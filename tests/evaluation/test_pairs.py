"""Pictures and their captions as people lay them down, and each way in which they do not fit together, in one line."""

import numpy as np
import pytest
from PIL import Image

from dalle_jax.errors import UserError
from dalle_jax.evaluation import pairs


@pytest.fixture
def folder(tmp_path):
  for i, name in enumerate(("b.png", "a.jpg", "below/c.png", ".hidden.png", "notes.txt")):
    (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".txt"):
      (tmp_path / "p" / name).write_text("no picture")
    else:
      Image.new("RGB", (4, 3), (40 * i, 0, 0)).save(tmp_path / "p" / name)
  return tmp_path


def read(folder, text, pictures="p"):
  (folder / "c.txt").write_text(text)
  return pairs.from_files(str(folder / pictures), str(folder / "c.txt"))


def test_lines_belong_to_the_pictures_in_the_order_of_their_names(folder):
  found = read(folder, "one\ntwo, and a half\none\n\n")
  assert found.pictures == ("a.jpg", "b.png", "below/c.png")
  assert found.captions == ("one", "two, and a half")
  assert found.pairs == ((0, 0), (1, 1), (2, 0))
  np.testing.assert_array_equal(found.belongs(), [[1, 0], [0, 1], [1, 0]])
  assert found.picture(2).shape == (3, 4, 3)
  assert found.picture(2)[0, 0, 0] == 80


def test_a_table_names_the_pictures_with_or_without_a_first_line_of_names(folder):
  for first in ("", "file\tcaption\n"):
    found = read(folder, first + "below/c.png\tone\nb.png\ttwo\nbelow/c.png\tthree\tfour\n")
    assert found.pictures == ("below/c.png", "b.png")
    assert found.captions == ("one", "two", "three\tfour")
    assert found.pairs == ((0, 0), (1, 1), (0, 2))
    assert found.picture(1)[0, 0, 0] == 0


def test_one_picture_has_one_caption(folder):
  assert read(folder, "one", "p/b.png").pictures == ("b.png",)


def test_pairs_of_prepared_data_are_its_first(tmp_path):
  class Data:
    splits = ("test",)

    def source(self, split):
      return [{"captions": [f"caption {i}", "other"][: i != 1], "image": np.full((2, 2, 3), i)} for i in range(5)]

  found = pairs.from_data(Data(), "test", 3)
  assert found.captions == ("caption 0", "caption 2")
  assert found.pictures == ("test-00000", "test-00002")
  assert found.picture(1)[0, 0, 0] == 2


@pytest.mark.parametrize(
  ("text", "pictures", "says"),
  [
    ("one\ntwo", "p", "got 2 captions in .*c.txt for 3 pictures in .*p, wanted one on each line for each"),
    ("one", "p", "got 1 caption in"),
    ("one\n\nthree", "p", "line 2 of .*c.txt is empty"),
    (" \n", "p", "c.txt holds no caption"),
    ("d.png\tone", "p", "names 'd.png', which is no picture of"),
    ("b.png\t", "p", "has no caption for b.png"),
    ("a.png\tone\nb.png two", "p", "line 2 of .*c.txt has no tab as others have, wanted name, tab, caption"),
    ("one", "q", "no picture at .*q: wanted a folder of pictures, or one picture"),
    ("one", "p/empty", "empty holds no picture"),
  ],
)
def test_what_does_not_fit_together_is_said(folder, text, pictures, says):
  (folder / "p/empty").mkdir()
  with pytest.raises(UserError, match=says):
    read(folder, text, pictures)


def test_captions_that_cannot_be_read_are_said(folder):
  with pytest.raises(UserError, match=r"cannot read the captions .*no.txt: No such file"):
    pairs.from_files(str(folder / "p"), str(folder / "no.txt"))
  with pytest.raises(UserError, match="byte 0 is no UTF-8"):
    pairs.from_files(str(folder / "p"), str(folder / "p/b.png"))
