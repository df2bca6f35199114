import gzip
import re
import unicodedata

import clip_words
import numpy as np
import pytest

from dalle_jax.data import clip_bpe, clip_vocabulary
from dalle_jax.data.clip_bpe import ClipTokenizer, cleaned
from dalle_jax.data.clip_vocabulary import byte_symbols
from dalle_jax.errors import UserError


@pytest.fixture
def tokenizer(tmp_path):
  return ClipTokenizer(clip_vocabulary.of([clip_words.openai(tmp_path)]))


def pieces(tokenizer, text):
  names = {i: symbol for symbol, i in tokenizer.vocabulary.ids.items()}
  return [names[i] for i in tokenizer.encode(text)]


def test_pairs_merge_in_the_order_of_the_file(tokenizer):
  assert pieces(tokenizer, "The  CAT\n") == ["the</w>", "cat</w>"]
  # "c a" comes before "a t</w>", and nothing joins ca and r inside a word.
  assert pieces(tokenizer, "cat cart at") == ["cat</w>", "ca", "r", "t</w>", "at</w>"]
  # From the left, each once.
  assert pieces(tokenizer, "aaaaa") == ["aa", "aa", "a</w>"]


def test_words_digits_marks_and_contractions_are_parted(tokenizer):
  assert pieces(tokenizer, "at's 12 at!?at") == [
    "at</w>",
    "'",
    "s</w>",
    "1</w>",
    "2</w>",
    "at</w>",
    "!",
    "?</w>",
    "at</w>",
  ]
  assert pieces(tokenizer, "'song") == ["'", "s</w>", "o", "n", "g</w>"]
  # Marks run on, apostrophes among them.
  assert pieces(tokenizer, "!'s") == ["!", "'</w>", "s</w>"]
  assert len(pieces(tokenizer, "é")) == 2


def test_letters_and_numbers_are_those_of_unicode():
  for category, kind in (("L", clip_bpe._category("L")), ("N", clip_bpe._category("N"))):
    one = re.compile(f"[{kind}]")
    for code in [*range(0x3000), *range(0xD7A0, 0x10000, 3), *range(0x10000, 0x20000, 7)]:
      assert bool(one.match(chr(code))) == (unicodedata.category(chr(code))[0] == category), hex(code)


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("  It’s “so”\t NICE ", 'it\'s "so" nice'),
    ("ﬁne ＡＢＣ　ŉ ǆ", "fine abc 'n dž"),
    ("cafe\u0301", "café"),
    ("a &amp;lt; b &eacute;", "a < b é"),
    ("a<b &rsquo;", "a<b ’"),
    ("a\x00b\ufeffc\x7f", "abc"),
    ("\ud83d\ude00 \ud800", "😀 \ufffd"),
  ],
)
def test_text_is_mended_before_it_is_read(text, found):
  assert cleaned(text) == found


def test_ids_have_a_start_an_end_and_zeros_and_what_is_too_long_is_cut(tokenizer):
  start, end = tokenizer.start, tokenizer.end
  assert (start, end, tokenizer.size) == (clip_words.SIZE - 2, clip_words.SIZE - 1, clip_words.SIZE)
  the, cat = tokenizer.encode("the cat")
  found = tokenizer.ids(["the cat", "", "the cat cat cat"], 5)
  np.testing.assert_array_equal(found, [[start, the, cat, end, 0], [start, end, 0, 0, 0], [start, the, cat, cat, end]])
  assert tokenizer.ids(["x"]).shape == (1, 77)
  with pytest.raises(UserError, match="no room for their start and end"):
    tokenizer.ids(["x"], 1)


def test_the_names_of_the_special_tokens_stand_for_them(tokenizer):
  assert tokenizer.encode("a <|endoftext|>b")[1] == tokenizer.end


def test_both_forms_of_the_vocabulary_are_one(tmp_path, tokenizer):
  folder = tmp_path / "face"
  folder.mkdir()
  clip_words.hugging_face(folder)
  for names in (("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")):
    other = clip_vocabulary.of([folder / name for name in names])
    assert (dict(other.ids), dict(other.ranks)) == (dict(tokenizer.vocabulary.ids), dict(tokenizer.vocabulary.ranks))
  plain = tmp_path / "plain.txt"
  plain.write_bytes(gzip.decompress((tmp_path / clip_vocabulary.OPENAI).read_bytes()))
  assert dict(clip_vocabulary.of([plain]).ids) == dict(tokenizer.vocabulary.ids)


def test_bytes_have_printable_symbols_of_their_own():
  symbols = byte_symbols()
  assert len(set(symbols)) == 256
  assert all(symbol.isprintable() and not symbol.isspace() for symbol in symbols)
  assert (symbols[ord("a")], symbols[ord(" ")], symbols[0], symbols[0xAD]) == ("a", "Ġ", "Ā", "Ń")


def test_only_the_published_number_of_merges_counts(tmp_path):
  letters = [chr(0x4E00 + i) for i in range(300)]
  merges = [f"{a} {b}" for a in letters for b in letters][: clip_vocabulary.MERGES + 100]
  found = clip_vocabulary.of([clip_words.openai(tmp_path, merges)])
  assert (len(found.ranks), len(found.ids)) == (48894, 49408)


@pytest.mark.parametrize(
  ("spoil", "told"),
  [
    (lambda path: path.unlink(), "No such file or directory"),
    (lambda path: path.write_bytes(path.read_bytes()[:-20]), "can't read CLIP's vocabulary"),
    (lambda path: path.write_bytes(b"\xff\xfe\x00"), "can't read CLIP's vocabulary"),
    (lambda path: path.write_bytes(b""), "holds no merges"),
    (lambda path: path.write_text("title\na b\nthree words here\n"), "'three words here', which is no merge of two"),
  ],
)
def test_a_vocabulary_that_is_none_is_one_line(tmp_path, spoil, told):
  path = clip_words.openai(tmp_path)
  spoil(path)
  with pytest.raises(UserError, match=told) as refused:
    clip_vocabulary.of([path])
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
  ("name", "text", "told"),
  [
    ("vocab.json", "{", "is no JSON"),
    ("vocab.json", "[1]", "an id of its own"),
    ("vocab.json", '{"a": 0, "b": 0}', "an id of its own"),
    ("vocab.json", '{"a": 0, "b": 1}', "lacks '<|startoftext|>'"),
    ("merges.txt", "#version\nq q\n", "lacks 'qq'"),
  ],
)
def test_two_files_that_are_no_vocabulary_are_one_line(tmp_path, name, text, told):
  clip_words.hugging_face(tmp_path)
  (tmp_path / name).write_text(text)
  with pytest.raises(UserError, match=re.escape(told)):
    clip_vocabulary.of([tmp_path / "vocab.json", tmp_path / "merges.txt"])
