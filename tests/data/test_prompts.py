"""Lists of captions: lines, and PartiPrompts' table."""

import pytest

from dalle_jax.data import prompts
from dalle_jax.data.prompts import Prompt
from dalle_jax.errors import UserError

# The first line and a few others as Yu et al. publish them.
PARTI = """\
Prompt\tCategory\tChallenge\tNote
bond\tAbstract\tBasic\tBiology-inspired concepts with multiple meanings
Salvador Dalí\tPeople\tBasic\t
A robot painted as graffiti on a brick wall. The words "Fly an airplane" are written on it.\tOutdoor Scenes\tComplex\t
"""


def written(tmp_path, text, encoding="utf-8"):
  (tmp_path / "list").write_text(text, encoding=encoding, newline="")
  return tmp_path / "list"


def test_a_caption_a_line(tmp_path):
  file = written(tmp_path, "a red circle\n\n  a  blue\tsquare \r\nPrompt\n")
  assert [each.text for each in prompts.read(file)] == ["a red circle", "a blue square", "Prompt"]
  assert [each.text for each in prompts.read(file, 2)] == ["a red circle", "a blue square"]
  assert prompts.read(file)[0].category == ""


@pytest.mark.parametrize(("encoding", "end"), [("utf-8", "\n"), ("utf-8-sig", "\n"), ("utf-8", "\r\n")])
def test_partiprompts_is_known_by_its_first_line(tmp_path, encoding, end):
  found = prompts.read(written(tmp_path, PARTI.replace("\n", end), encoding))
  assert found[0] == Prompt(text="bond", category="Abstract", challenge="Basic")
  assert found[1].text == "Salvador Dalí"
  assert '"Fly an airplane"' in found[2].text
  assert (found[2].category, found[2].challenge) == ("Outdoor Scenes", "Complex")
  assert len(found) == 3


def test_columns_are_found_by_name(tmp_path):
  file = written(tmp_path, "Prompt\tNote\tChallenge\tCategory\na cat\tnone\tBasic\tAnimals\n")
  assert prompts.read(file) == (Prompt(text="a cat", category="Animals", challenge="Basic"),)


@pytest.mark.parametrize(
  ("text", "says"),
  [
    (None, "cannot read the captions .*list: No such file"),
    ("", "holds no caption"),
    ("\n \n", "holds no caption"),
    ("Prompt\tCategory\nx\ty\n", "has no column Challenge"),
    ("Prompt\tCategory\tChallenge\na cat\n", "line 2 of .* has no Prompt or no Category"),
    ("Prompt\tCategory\tChallenge\n\tAnimals\tBasic\n", "line 2 of .* has no Prompt"),
    ("Prompt\tCategory\tChallenge\n", "holds no caption"),
  ],
)
def test_what_is_no_list_is_one_line(tmp_path, text, says):
  if text is not None:
    written(tmp_path, text)
  with pytest.raises(UserError, match=says):
    prompts.read(tmp_path / "list")


def test_another_encoding_is_one_line(tmp_path):
  (tmp_path / "list").write_bytes("Dalí".encode("latin-1"))
  with pytest.raises(UserError, match="byte 3 is no UTF-8"):
    prompts.read(tmp_path / "list")
