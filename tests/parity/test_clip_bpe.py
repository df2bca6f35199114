"""The published CLIP's tokenizer against open_clip's, which ships the vocabulary, and transformers'."""

import ast
import json
import random
import re
from pathlib import Path

import numpy as np
import official
import pytest

from dalle_jax.data import clip_vocabulary
from dalle_jax.data.clip_bpe import ClipTokenizer, cleaned

pytestmark = pytest.mark.parity

ODD = r"""
it'ſ|ŉ ĳ Ǆ ﬁn ﬅ ﬆ|ＦＵＬＬ　ｗｉｄｅ１２|“curly” ‘quotes’ don’t|rock'n'roll|I'LL they'Re he'd'nt|'s's 'song !'s
½ ² ³ Ⅷ ⓐ ①|é e\u0301 Å A\u030a|&amp;lt; &eacute; &rsquo; a<b &amp; c|naïve café|日本語 テキスト 一二三|Привет мир ΟΔΟΣ
👍🏽👩\u200d👩\u200d👧 🇩🇪|x_y__z 3.14159 1,000 $5|\u200bzero\u200d\ufeffwidth
İstanbul STRASSE ß ẞ|हिन्दी ภาษาไทย العربية עברית
ﾊﾝｶｸ ￦|\x00\x1c\x1fctl\x7f|#hash @at http://www.a.b/c?d=e&f=g|\u212a Å ſ|..... !!?? -- — …|'|''
\u0345 \u0345a Ⓐ ⅷ|\ud800 x \ud83d\ude00|an A4 sheet; 50% off!!!|T-shirt (XL)|C++ & C#|“It’s”|<b>bold</b> &lt;i&gt;
e.g. i.e. a.k.a.|tab\tand\r\nlines\u2028here\u00a0too
"""
WORDS = """
a an the of in on with and armchair shape avocado penguin wearing sweater red green blue cube sphere illustration photo
storefront that has word written it's don't we've I'm you're she'd they'll 1950s 2021 3d HD 4K iPhone café naïve über
Zürich smörgåsbord piñata señor façade crème brûlée soupçon Łódź Ærøskøbing Straße 東京 カメラ 사진 кошка γάτα חתול قطة
"""
MARKS = [" ", " ", " ", "  ", ", ", ". ", "! ", "? ", " - ", "/", "'", '"', " (", ") ", ": ", "; ", "&", "...", "\n"]
EMOJI = "😀🎨🐧🥑🛋️🦊🍕🌈🏳️\u200d🌈👨\u200d👩\u200d👧🇫🇷1️⃣❤️\u200d🔥"


def unescaped(text):
  """With what is written as in Python's strings put in: they stand in the file as they look."""
  return re.sub(r"\\(?:u[0-9a-f]{4}|x[0-9a-f]{2}|[trn])", lambda found: ast.literal_eval(f"'{found[0]}'"), text)


def strings(count, seed=0):
  """The odd ones, then what a generator puts together of words, marks, emoji and digits."""
  rng, words = random.Random(seed), WORDS.split()
  found = [unescaped(text) for line in ODD.split("\n") for text in line.split("|") if text]
  found += ["a" * 300, "avocado " * 100, "", " \n ", "!" * 99]
  while len(found) < count:
    parts = []
    for _ in range(rng.randint(1, 12)):
      kind = rng.random()
      if kind < 0.7:
        word = rng.choice(words)
        parts.append(rng.choice([word, word.upper(), word.title(), word + rng.choice(words)]))
      elif kind < 0.8:
        parts.append(str(rng.randint(0, 10 ** rng.randint(1, 9))))
      elif kind < 0.9:
        parts.append("".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 3))))
      else:
        parts.append("".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(1, 8))))
      parts.append(rng.choice(MARKS))
    found.append("".join(parts))
  return found


@pytest.fixture(scope="module")
def published():
  """open_clip's tokenizer, and ours of the vocabulary that its package holds."""
  module = official.load("open_clip.tokenizer")
  return module, ClipTokenizer(clip_vocabulary.of([Path(module.default_bpe())]))


def test_ids_are_those_of_open_clip(published):
  module, tokenizer = published
  theirs = module.SimpleTokenizer()
  texts = strings(4000)
  assert len(set(texts)) > 3900
  wanted = theirs(texts).numpy()
  found = tokenizer.ids(texts)
  assert [text for text, a, b in zip(texts, found, wanted) if not np.array_equal(a, b)] == []
  assert found.dtype == np.int32
  assert (tokenizer.start, tokenizer.end, tokenizer.size) == (49406, 49407, 49408)
  # Some were cut, with the end in the last place, and some were not.
  assert 0 < (found[:, -1] == tokenizer.end).mean() < 0.1
  assert len(np.unique(found)) > 800


def test_a_shorter_context_is_cut_as_open_clip_cuts_it(published):
  module, tokenizer = published
  texts = strings(300, seed=1)
  np.testing.assert_array_equal(tokenizer.ids(texts, 8), module.SimpleTokenizer()(texts, context_length=8).numpy())


def test_what_wrong_decoding_left_is_read_as_it_stands(published):
  # The one thing that ftfy does for captions and we do not: the docstring says so, and here it is so.
  module, tokenizer = published
  assert tokenizer.encode("schÃ¶n") != module.SimpleTokenizer().encode("schÃ¶n")
  assert module.SimpleTokenizer().encode("schÃ¶n") == tokenizer.encode("schön")


def test_ids_are_those_of_transformers_from_its_two_files(published, tmp_path):
  _, tokenizer = published
  (tmp_path / "vocab.json").write_text(json.dumps(tokenizer.vocabulary.ids))
  merges = "".join(f"{a} {b}\n" for a, b in tokenizer.vocabulary.ranks)
  (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges)
  transformers = official.load("transformers")
  theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
  ours = ClipTokenizer(clip_vocabulary.of([tmp_path / "vocab.json", tmp_path / "merges.txt"]))
  # It mends and unescapes nothing, and knows no final sigma nor other forms of a letter: texts that need none of it.
  texts = [text for text in strings(2000) if " ".join(text.split()).lower() == cleaned(text)]
  texts = [text for text in texts if not set(cleaned(text)) & set("ςſ\u0345")]
  texts += ["a <|endoftext|> b", "<|startoftext|>x"]
  assert len(texts) > 1500
  wanted = theirs(texts, max_length=77, truncation=True).input_ids
  found = ours.ids(texts)
  assert [t for t, a, b in zip(texts, found, wanted) if list(a[: len(b)]) != b or a[len(b) :].any()] == []
