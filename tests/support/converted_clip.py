"""A small CLIP as others publish them, with random weights, converted."""

import json

import clip_arrays
import clip_words
from safetensors.numpy import save_file

from dalle_jax import convert_files


def written(path):
  """The directory of the converted weights, below `path`."""
  text = {**clip_arrays.HUGGING_FACE["text_config"], "eos_token_id": clip_words.SIZE - 1}
  path.mkdir()
  save_file(clip_arrays.drawn(clip_arrays.hugging_face(clip_words.SIZE)), path / "model.safetensors")
  (path / "config.json").write_text(json.dumps({**clip_arrays.HUGGING_FACE, "text_config": text}))
  clip_words.hugging_face(path)
  convert_files.convert([path], path / "out")
  return str(path / "out")
