"""CharBPETokenizer's vocabularies, of which one is written out here; compared with the package in tests/parity."""

import json

import pytest

from dalle_jax.data.char_bpe import CharBpe, words
from dalle_jax.errors import UserError

TOKENS = ["[UNK]", "a", "b", "c</w>", "!</w>", "bc</w>", "abc</w>", "a</w>"]
MERGES = "#version: 0.2\nb c</w>\na bc</w>\n"


def files(folder, tokens=None, merges=MERGES):
  vocabulary, rules = folder / "vocab.json", folder / "merges.txt"
  vocabulary.write_text(json.dumps({token: i for i, token in enumerate(TOKENS)} if tokens is None else tokens))
  rules.write_text(merges)
  return vocabulary, rules


@pytest.mark.parametrize(
  ("text", "ids"),
  [
    ("abc", [6]),
    ("ABC bc!", [6, 5, 4]),
    ("xxa", [0, 0, 7]),
    ("bc[PAD]a", [5, 8, 7]),
    ("", []),
  ],
)
def test_a_text_is_read_by_its_merges(tmp_path, text, ids):
  assert CharBpe(*files(tmp_path)).encode(text) == ids


def test_a_caption_is_cut_or_padded(tmp_path):
  bpe = CharBpe(*files(tmp_path))
  assert bpe.ids("abc a", 4).tolist() == [6, 7, 8, 8]
  assert bpe.ids("a a a", 2).tolist() == [7, 7]
  assert bpe.decode([6, 0, 4, 8, 8]) == "abc !"
  assert bpe.size == 9


def test_words_are_parted_as_berts():
  assert list(words("Don't\tpay $5, 東京tower\x00!")) == [
    "don",
    "'",
    "t",
    "pay",
    "$",
    "5",
    ",",
    "東",
    "京",
    "tower",
    "!",
  ]


@pytest.mark.parametrize(
  ("tokens", "merges", "told"),
  [
    (["a"], MERGES, "is no vocabulary: wanted tokens and their ids"),
    ({"[UNK]": 0, "a": 2}, "", "is no vocabulary"),
    ({"a": 0}, "", r"has no \[UNK\]"),
    (None, "b c</w>\na\n", "has the line 'a': wanted two tokens"),
    (None, "a b\n", "joins 'a' and 'b', but .* has no 'ab'"),
  ],
)
def test_other_files_are_refused(tmp_path, tokens, merges, told):
  with pytest.raises(UserError, match=told):
    CharBpe(*files(tmp_path, tokens, merges))


def test_missing_files_and_files_that_are_no_text_are_told(tmp_path):
  vocabulary, merges = files(tmp_path)
  with pytest.raises(UserError, match=r"cannot read .*nowhere"):
    CharBpe(vocabulary, tmp_path / "nowhere")
  merges.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(UserError, match="is no text"):
    CharBpe(vocabulary, merges)
  vocabulary.write_text("{")
  with pytest.raises(UserError, match="is no JSON"):
    CharBpe(vocabulary, merges)
