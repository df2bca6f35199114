"""Captions as ids: SentencePiece's own where nothing is dropped, repeatable where something is, and pads."""

import hashlib
import os
import pickle
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import sentencepiece

from dalle_jax.data import captions, scene_captions, scene_layout
from dalle_jax.data.captions import SPACE, Tokenizer, TokenizerConfig
from dalle_jax.errors import StorageError, UserError

HOSTILE = (
  "",
  "   ",
  "\0",
  "a\0b",
  "\n\ta \u3000 b\r",
  SPACE,
  f"a{SPACE}b {SPACE}{SPACE}",
  "🦊🧁",
  "👩🏽\u200d🚀 astronaut",
  "ＡＢＣ Straße ﬁne ofﬁce Ⅷ",
  "İstanbul ẞ",
  "A\u0301 é",
  "x² y½ ① 3½",
  "日本の café",
  "हिन्दी ﷺ",
  "\u200bzero\u200bwidth\ufeff",
  "don't 3D-print 12 34abc5_6",
  "<s> </s> <unk> <0x41>",
  "\x7f\x01",
  "x" * 10_000,
  "a red circle, " * 700,
)


def scene_texts(number):
  scenes = [scene_layout.sample(random.Random(i), count=1 + i % 3, split="train") for i in range(number)]
  return [scene_captions.caption(scene, variant)[0] for scene in scenes for variant in range(3)]


@pytest.fixture(scope="module")
def texts():
  return scene_texts(1000)


@pytest.fixture(scope="module")
def model(texts):
  return captions.train([*texts, *HOSTILE * 5], TokenizerConfig(vocab=600))


@pytest.fixture(scope="module")
def words(model):
  return Tokenizer(model, TokenizerConfig(vocab=600))


def sentencepiece_of(model):
  return sentencepiece.SentencePieceProcessor(model_proto=model)


def pieces(model):
  own = sentencepiece_of(model)
  return [own.id_to_piece(i) for i in range(own.vocab_size()) if not (own.is_byte(i) or own.is_unknown(i))]


def test_every_caption_gets_the_ids_that_sentencepiece_gives_it(model, words, texts):
  own = sentencepiece_of(model)
  assert np.mean([len(own.encode(text)) for text in texts]) < 0.5 * np.mean([len(text) for text in texts])
  assert [text for text in [*texts, *HOSTILE] if words.encode(text) != own.encode(text)] == []


def test_ids_are_sentencepieces_where_pieces_overlap_in_many_ways():
  rng = random.Random(0)
  runs = ["".join(rng.choices("ab", [2, 1], k=rng.randint(1, 30))) for _ in range(2000)]
  model = captions.train(runs[:500], TokenizerConfig(vocab=330))
  assert sum(len(piece) > 2 for piece in pieces(model)) > 40
  own, words = sentencepiece_of(model), Tokenizer(model, TokenizerConfig(vocab=330))
  assert [run for run in runs if words.encode(run) != own.encode(run)] == []


def test_no_piece_holds_more_than_letters_or_one_other_character(model):
  found = pieces(model)
  assert sum(len(piece) > 3 for piece in found) > 50
  for piece in found:
    assert len(piece) == 1 or all(unicodedata.category(c)[0] == "L" for c in piece), piece


def test_digits_marks_and_spaces_are_tokens_of_their_own(model, words):
  own = sentencepiece_of(model)
  spelt = [own.id_to_piece(i) for i in words.encode("red12,3 - circle")]
  assert [piece for piece in spelt if not piece.isalpha()] == ["1", "2", ",", "3", SPACE, "-", SPACE]


@pytest.mark.parametrize("other", ["A RED Circle", "ａ Ｒed circle", "  a\tred\n\ncircle ", "a red\0circle"])
def test_case_width_and_blanks_make_no_difference(words, other):
  other = other.replace("\0", "\u00a0")
  assert words.encode(other) == words.encode("a red circle")


def test_without_a_generator_or_with_a_dropout_of_0_nothing_is_dropped(model, words, texts):
  never = Tokenizer(model, TokenizerConfig(vocab=600, dropout=0.0))
  for text in texts[:300]:
    assert never.encode(text, np.random.default_rng(0)) == words.encode(text)


@pytest.mark.slow
def test_a_tenth_of_the_merges_is_left_out_as_sentencepiece_does_it(model, words, texts):
  texts = texts[:400]
  own, rng, plain = sentencepiece_of(model), np.random.default_rng(0), sum(len(words.encode(text)) for text in texts)
  dropped = [words.encode(text, rng) for text in texts]
  theirs = sum(len(own.encode(text, enable_sampling=True, alpha=0.1)) for text in texts)
  assert theirs / plain > 1.1
  assert sum(map(len, dropped)) / theirs == pytest.approx(1, abs=0.02)
  assert [words.decode(ids) for ids in dropped] == [words.decode(words.encode(text)) for text in texts]


def test_more_dropout_makes_captions_longer(model, texts):
  lengths = []
  for dropout in (0.0, 0.1, 0.5, 0.9):
    words, rng = Tokenizer(model, TokenizerConfig(vocab=600, dropout=dropout)), np.random.default_rng(1)
    lengths.append(sum(len(words.encode(text, rng)) for text in texts[:60]))
  assert lengths == sorted(lengths)
  assert len(set(lengths)) == 4
  assert lengths[3] <= sum(len(text) for text in texts[:60])


def test_dropout_follows_the_generator_and_nothing_else(words, texts):
  once, again, other = (
    [words.encode(text, np.random.default_rng([seed, i])) for i, text in enumerate(texts[:60])] for seed in (0, 0, 1)
  )
  assert once == again
  assert once != other


REPEAT = """
import hashlib, sys
import numpy as np
from dalle_jax.data.captions import Tokenizer, TokenizerConfig
words = Tokenizer(open(sys.argv[1], "rb").read(), TokenizerConfig(vocab=600))
texts = open(sys.argv[2], encoding="utf-8", newline="").read().split("\\n")
ids = [words.ids(text, np.random.default_rng([7, i])) for i, text in enumerate(texts)]
print(hashlib.sha256(np.stack(ids).tobytes()).hexdigest())
"""


def test_another_process_drops_the_same_merges(model, words, texts, tmp_path):
  (tmp_path / "model").write_bytes(model)
  (tmp_path / "texts").write_text("\n".join(texts[:60]), encoding="utf-8")
  ids = [words.ids(text, np.random.default_rng([7, i])) for i, text in enumerate(texts[:60])]
  command = [sys.executable, "-c", REPEAT, str(tmp_path / "model"), str(tmp_path / "texts")]
  done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "5"})
  assert done.stdout.strip() == hashlib.sha256(np.stack(ids).tobytes()).hexdigest(), done.stderr


def test_the_same_captions_train_the_same_model(texts):
  first, again = (captions.train(iter(texts), TokenizerConfig(vocab=600)) for _ in range(2))
  assert first == again
  assert first != captions.train(texts[:100], TokenizerConfig(vocab=600))


def test_absent_tokens_are_pads_each_of_its_own_class(words):
  found_T = words.ids("a red circle")
  count = len(words.encode("a red circle"))
  assert found_T.dtype == np.int32
  assert found_T.shape == (256,)
  assert found_T[:count].tolist() == words.encode("a red circle")
  assert found_T[count:].tolist() == [600 + i for i in range(count, 256)]
  assert words.ids("").tolist() == [600 + i for i in range(256)]


@pytest.mark.parametrize("length", [2, 5, 256])
def test_a_long_caption_is_cut_and_the_last_position_stays_a_pad(model, length):
  words = Tokenizer(model, TokenizerConfig(vocab=600, length=length))
  for rng in (None, np.random.default_rng(0)):
    found_T = words.ids("7" * 1000, rng)
    assert len(set(found_T[:-1])) == 1
    assert found_T[0] < 600
    assert found_T[-1] == 600 + length - 1
  assert len(words.encode("7" * 1000)) == 1000


def test_ids_read_back_as_the_caption_in_lower_case(words, texts):
  for text in [*texts[:300], "café 🦊 日本 ½"]:
    wanted = unicodedata.normalize("NFKC", text).casefold()
    assert words.decode(words.encode(text)) == wanted
    assert words.decode(words.ids(text).tolist()) == wanted


def test_the_share_that_is_spelt_out_counts_bytes_and_single_letters_of_longer_words(texts):
  words = Tokenizer(captions.train(texts, TokenizerConfig(vocab=600)), TokenizerConfig(vocab=600))
  own = sentencepiece_of(words.model)
  assert all(words.spelt_out(text) == 0 for text in texts[:50])
  assert words.spelt_out("a") == words.spelt_out("") == words.spelt_out("  ") == 0
  # Katakana of three bytes each, then a word that is known, and marks.
  assert sum(own.is_byte(i) for i in own.encode("カピ circle")) == 6
  assert words.spelt_out("カピ") == 1
  assert words.spelt_out("カピ circle") == words.spelt_out("カピcircle") == 6 / 7
  assert words.spelt_out("カピ circle red red") == 6 / 9
  assert words.spelt_out("xqz") == 1
  assert 0 < words.spelt_out("a red zebra") < 1


def test_without_spaces_the_other_tokens_stay_and_captions_are_shorter(model, words, texts):
  own = sentencepiece_of(model)
  dense = Tokenizer(model, TokenizerConfig(vocab=600, spaces=False))
  space = own.piece_to_id(SPACE)
  for text in texts[:300]:
    whole = words.encode(text)
    assert space in whole
    assert dense.encode(text) == [i for i in whole if i != space]
  assert dense.decode(dense.encode("a red circle")) == "aredcircle"


@pytest.mark.parametrize(("few", "least"), [("red", 3), ("123", 3), ("🦊", 1)], ids=["a word", "digits", "an emoji"])
def test_few_captions_make_a_smaller_model(few, least):
  """256 bytes, the unknown and the space, then the characters, then what merges there are."""
  cfg = TokenizerConfig(vocab=16384, length=8)
  words = Tokenizer(captions.train([few], cfg), cfg)
  assert 258 + least <= words.size < 270
  assert words.decode(words.ids(few).tolist()) == few
  assert words.ids("")[3] == 16384 + 3


@pytest.mark.parametrize("nothing", [[], [""], ["  ", "\0", "\n"]], ids=["no caption", "an empty one", "blanks"])
def test_captions_that_hold_nothing_are_refused_in_one_line(nothing):
  with pytest.raises(UserError, match=r"no tokenizer can be trained on these captions .* any words\?") as info:
    captions.train(nothing, TokenizerConfig(vocab=300))
  assert "\n" not in str(info.value)


@pytest.mark.parametrize("error", [StorageError("example 7 can't be read"), KeyboardInterrupt()])
def test_what_reading_the_captions_raises_is_passed_on(error):
  def broken():
    yield "a red circle"
    raise error

  with pytest.raises(type(error)) as info:
    captions.train(broken(), TokenizerConfig(vocab=300))
  assert info.value is error


def test_a_tokenizer_goes_to_another_process_whole(words, texts):
  copy = pickle.loads(pickle.dumps(words))
  assert (copy.cfg, copy.size) == (words.cfg, words.size)
  for i, text in enumerate(texts[:50]):
    assert copy.encode(text) == words.encode(text)
    assert copy.encode(text, np.random.default_rng(i)) == words.encode(text, np.random.default_rng(i))


@pytest.mark.parametrize(
  ("wrong", "says"),
  [
    ({"vocab": 299}, "the tokenizer's vocab is 299: at least 300"),
    ({"length": 1}, "the tokenizer's length is 1: at least 2"),
    ({"dropout": 1.0}, "the tokenizer's dropout is 1.0"),
    ({"dropout": -0.1}, "the tokenizer's dropout is -0.1"),
    ({"dropout": float("nan")}, "the tokenizer's dropout is nan"),
  ],
)
def test_settings_that_make_no_sense_are_refused(wrong, says):
  with pytest.raises(UserError, match=says):
    TokenizerConfig(**wrong)


def test_a_model_of_more_pieces_than_the_vocabulary_is_refused(model):
  with pytest.raises(UserError, match="the tokenizer's model has 600 pieces, its vocab is 400"):
    Tokenizer(model, TokenizerConfig(vocab=400))


@pytest.mark.parametrize("spaces", [True, False])
def test_words_are_what_spaces_part_and_every_other_id_is_one_of_theirs(model, texts, spaces):
  words = Tokenizer(model, TokenizerConfig(vocab=600, spaces=spaces))
  for text in [*texts[:50], "  Two  BIG foxes, 12.5 m: 🦊 "]:
    ids, found = words.encode(text), words.words(text)
    assert [word for word, _ in found] == words._pieces.normalize(text).replace(SPACE, " ").split(" ")
    spelt = [place for _, places in found for place in places]
    (space,) = words.encode("a b")[1:2] if spaces else [None]
    assert spelt == [place for place, id in enumerate(ids) if id != space]
    for word, places in found:
      assert words.decode([ids[place] for place in places]) == word


def test_of_captions_those_are_unknown_whose_words_were_never_learnt(words, texts):
  strange = ["カピバラ", "xqzvw jkpf"]
  assert captions.unknown(words, [texts[0], strange[0], texts[1], strange[1]]) == strange
