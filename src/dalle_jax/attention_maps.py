"""Which words of its caption a drawn picture's tokens looked at, as a sheet of maps for each kept sample.

B one picture, N its codes, T text positions.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from PIL import Image

from dalle_jax.data.captions import Tokenizer
from dalle_jax.evaluation import attention_sheet
from dalle_jax.sampling import attention
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.gallery import Sample


def sheets(model: Drawer, words: Tokenizer, progress: Callable[[], object]) -> Callable[[Sample], Image.Image]:
  """What makes a sample's sheet, from one pass of the whole stream over its codes; progress: called after each.

  Words are as the tokenizer reads them, lower-case; those that no token of the text window begins are left out.
  """
  kinds = model.transformer.kinds()

  def sheet(sample: Sample) -> Image.Image:
    text_BT = jnp.asarray(words.ids(sample.caption))[None]
    codes_BN = jnp.asarray(sample.codes_N, jnp.int32)[None]
    weights_ABNT = attention.on_text(model.transformer_params, text_BT, codes_BN, model=model.transformer)
    read = _read(words, sample.caption)
    rows = attention_sheet.rows(np.asarray(weights_ABNT, np.float64)[:, 0], [places for _, places in read], kinds)
    made = attention_sheet.sheet(sample.image_HWC, [word for word, _ in read], rows)
    progress()
    return made

  return sheet


def _read(words: Tokenizer, caption: str) -> list[tuple[str, list[int]]]:
  """The words, and which tokens of theirs the transformer reads."""
  most = words.cfg.length - 1
  within = [(word, [place for place in places if place < most]) for word, places in words.words(caption)]
  return [(word, places) for word, places in within if places]
