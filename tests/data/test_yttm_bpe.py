"""YouTokenToMe's vocabularies, of which one is written out here; compared with the package in tests/parity."""

import pytest

from dalle_jax.data.yttm_bpe import YttmBpe
from dalle_jax.errors import UserError

# Characters: the mark of a space 4, a 5, b 6, c 7. Merges: mark and a are 8, b and c are 9, 8 and 9 are 10.
FILE = f"4 3\n{ord('▁')} 4\n97 5\n98 6\n99 7\n4 5 8\n6 7 9\n8 9 10\n1 0 2 3\n"


@pytest.fixture
def vocabulary(tmp_path):
  (tmp_path / "bpe.model").write_text(FILE)
  return YttmBpe(tmp_path / "bpe.model")


@pytest.mark.parametrize(
  ("text", "ids"),
  [
    ("abc", [10]),
    ("bca", [4, 9, 5]),
    ("  a\t\nbc ", [8, 4, 9]),
    ("axyb", [8, 1, 6]),  # two characters that it does not have are one unknown
    ("a▁a", [8, 8]),
    ("A", [4, 1]),
    ("", []),
  ],
)
def test_a_text_is_read_by_its_merges(vocabulary, text, ids):
  assert vocabulary.encode(text) == ids


def test_a_caption_is_read_in_lower_case_between_begin_and_end(vocabulary):
  assert vocabulary.ids(" ABC\n", 6).tolist() == [2, 10, 3, 0, 0, 0]
  assert vocabulary.ids("a a a a", 4).tolist() == [2, 8, 8, 8]
  assert vocabulary.decode([2, 10, 8, 1, 3, 0, 0]) == "abc a"
  assert vocabulary.size == 11


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("", "is no vocabulary of YouTokenToMe's"),
    (FILE[:-8], "or was cut off"),
    ("\x80\x04}q", "is no vocabulary"),
    (FILE.replace("97 5", "-97 5"), "is no vocabulary"),
    (FILE.replace(str(ord("▁")), "100"), "no mark for spaces"),
    (FILE.replace("8 9 10", "8 11 10"), "joins the ids 8 and 11, which it does not have"),
  ],
)
def test_another_file_is_refused(tmp_path, text, told):
  (tmp_path / "bpe.model").write_text(text)
  with pytest.raises(UserError, match=told):
    YttmBpe(tmp_path / "bpe.model")


def test_a_missing_file_is_told(tmp_path):
  with pytest.raises(UserError, match=r"cannot read .*bpe\.model"):
    YttmBpe(tmp_path / "bpe.model")
