"""A small vocabulary of CLIP's two forms: bytes, a few merges, the two special tokens."""

import gzip
import json

from dalle_jax.data import clip_vocabulary
from dalle_jax.data.clip_vocabulary import END, START, WORD_END, byte_symbols

MERGES = ["c a", "ca t</w>", "t h", "th e</w>", "a t</w>", "ca r</w>", "Ġ Ġ", "a a"]
SIZE = 512 + len(MERGES) + 2


def openai(folder, merges=MERGES):
  path = folder / clip_vocabulary.OPENAI
  path.write_bytes(gzip.compress("\n".join(["a title", *merges, ""]).encode()))
  return path


def hugging_face(folder, merges=MERGES):
  single = sorted(byte_symbols())
  symbols = [*single, *(s + WORD_END for s in single), *(m.replace(" ", "") for m in merges), START, END]
  (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
  (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
  return folder
