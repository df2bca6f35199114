"""The readers of minDALL-E's and ruDALL-E's vocabularies against the packages that made them."""

import json
import random
import unicodedata

import numpy as np
import official
import official_peers
import pytest

from dalle_jax.data.char_bpe import CharBpe, words
from dalle_jax.data.yttm_bpe import YttmBpe

pytestmark = pytest.mark.parity

WORDS = [
  *("кот", "собака", "красный", "синяя", "дом", "дерево", "небо", "закат", "рисунок", "фотография", "белая", "кошка"),
  *("сидит", "на", "стуле", "и", "в", "не", "он", "она", "the", "cat", "sat", "on", "mat", "a", "red", "apple"),
  *("tree-house", "don't", "12", "345", "6", "ёлка", "щука!", "где?", "ДОМ", "Кошка", "Ärger", "naïve", "東京", "猫"),
]
ODD = [
  *(
    "",
    " ",
    "\n\t кот \x0bкот\x0c",
    "кот\u2581кот",
    "\u2581",
    "a\u00a0b",
    "a\x85b",
    "кот\x1cкот",
    "жжжщщ 猫猫cat 東京",
  ),
  *("  the  cat ", "кот\u3000кот", "e\u0301 é İstanbul ΟΔΟΣ", "\ufeffcat\u200d", "x[PAD]y[UNK]", "[pad]"),
  *("a¿b«c»d$e+f", "\U0001f600 cat\U0001f3fb", "cat" * 40, "кошка" * 40),
]


def captions(count, seed):
  """Sentences of known words, some spoilt by letters and marks that no sentence of the vocabulary's had."""
  rng = random.Random(seed)
  for _ in range(count):
    text = rng.choice((" ", "  ", " , ")).join(rng.choices(WORDS, k=rng.randint(1, 12)))
    for _ in range(rng.choice((0, 0, 1, 3))):
      at = rng.randrange(len(text))
      text = text[:at] + rng.choice("жQ%→€猫ẞ.") + text[at:]
    yield text


@pytest.fixture(scope="module")
def yttm(tmp_path_factory):
  """ruDALL-E's wrapper of YouTokenToMe with a vocabulary of its own making, and the file."""
  folder = tmp_path_factory.mktemp("yttm")
  (folder / "text").write_text("\n".join(" ".join(random.Random(i).choices(WORDS, k=8)) for i in range(300)) + "\n")
  file = str(folder / "bpe.model")
  module = official_peers.rudalle("tokenizer")
  made = official.load("youtokentome").BPE.train(
    data=str(folder / "text"), vocab_size=170, model=file, pad_id=0, unk_id=1, bos_id=2, eos_id=3
  )
  return module.YTTMTokenizerWrapper(made), file


@pytest.fixture(scope="module")
def char_bpe(tmp_path_factory):
  """minDALL-E's tokenizer with a vocabulary that the package trained, and its files."""
  folder = tmp_path_factory.mktemp("char_bpe")
  trained = official.load("tokenizers").CharBPETokenizer(lowercase=True, unk_token="[UNK]")
  sentences = [" ".join(random.Random(i).choices(WORDS, k=8)) for i in range(300)]
  trained.train_from_iterator(sentences, vocab_size=200, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
  trained.save_model(str(folder), "bpe-16k")
  return folder


def test_yttm_ids_are_the_packages(yttm):
  theirs, file = yttm
  ours = YttmBpe(file)
  assert ours.size == theirs.vocab_size()
  texts = [*captions(1500, seed=1), *ODD]
  wanted = theirs.tokenizer.encode(texts)
  assert [ours.encode(text) for text in texts] == wanted
  assert sum(1 in ids for ids in wanted) > 100  # unknowns
  assert len({i for ids in wanted for i in ids}) > 100


@pytest.mark.parametrize("length", [8, 128])
def test_rudalle_reads_a_caption_as_its_program_does(yttm, length):
  theirs, file = yttm
  ours = YttmBpe(file)
  for text in captions(200, seed=2):
    wanted = theirs.encode_text(text.lower().strip(), text_seq_length=length)  # as in its generate_images
    np.testing.assert_array_equal(ours.ids(text, length), wanted.numpy())
    assert ours.decode(wanted.tolist()) == theirs.decode_text(wanted)


@pytest.mark.parametrize("pad_in_vocabulary", [True, False])
def test_char_bpe_ids_are_the_packages(char_bpe, tmp_path, pad_in_vocabulary):
  files = {}
  for name in ("bpe-16k-vocab.json", "bpe-16k-merges.txt"):
    files[name] = tmp_path / name
    files[name].write_bytes((char_bpe / name).read_bytes())
  if not pad_in_vocabulary:
    vocabulary = json.loads(files["bpe-16k-vocab.json"].read_text())
    del vocabulary["[PAD]"]
    files["bpe-16k-vocab.json"].write_text(json.dumps({token: i - 1 for token, i in vocabulary.items()}))
  theirs = official_peers.mindalle("tokenizer").build_tokenizer(str(tmp_path), 64, lowercase=True, dropout=None)
  ours = CharBpe(*files.values())
  assert ours.size == theirs.get_vocab_size()
  wanted = []
  for text in [*captions(1500, seed=1), *ODD]:
    wanted.append(theirs.encode(text).ids)
    assert ours.ids(text).tolist() == wanted[-1], text
    assert ours.decode(wanted[-1]) == theirs.decode(wanted[-1]), text
  assert sum(ours.unknown in ids for ids in wanted) > 100
  assert len({i for ids in wanted for i in ids}) > 100
  assert max(len(ours.encode(text)) for text in ODD) > 64  # one is cut


def test_words_are_parted_as_by_the_package_but_for_marks_that_unicode_has_named_since():
  package = official.load("tokenizers").CharBPETokenizer(lowercase=True)._tokenizer
  odd, count = [], 0
  for character in filter(lambda c: unicodedata.category(c) not in ("Cn", "Cs"), map(chr, range(0x20000))):
    text, count = f"a{character}b", count + 1
    theirs = [word for word, _ in package.pre_tokenizer.pre_tokenize_str(package.normalizer.normalize_str(text))]
    if list(words(text)) != theirs:
      odd.append(character)
  assert count > 70_000
  assert len(odd) < 200
  assert {unicodedata.category(character)[0] for character in odd} <= {"P", "C", "S", "M"}
  assert min(odd) > "\u05ff"
