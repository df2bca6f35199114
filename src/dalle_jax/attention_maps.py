"""Which words of its caption a drawn picture's tokens looked at, as a sheet of maps for each kept sample.

B pictures at a time, N codes of each, T text positions.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from dalle_jax.data.captions import Tokenizer
from dalle_jax.evaluation import attention_sheet
from dalle_jax.sampling import attention
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.gallery import Sample


def sheets(
  model: Drawer, words: Tokenizer, progress: Callable[[], object]
) -> Callable[[Sequence[Sample]], Iterator[Image.Image]]:
  """What makes samples' sheets, in their order, from one pass of the whole stream over each one's codes.

  Each device makes one pass at a time. progress: called for each sheet. Words are as the tokenizer reads them,
  lower-case; those that no token of the text window begins are left out.
  """
  kinds, devices = model.transformer.kinds(), model.devices
  how = {"model": model.transformer, "mesh": devices.mesh, "rules": devices.rules}

  def all_of(samples: Sequence[Sample]) -> Iterator[Image.Image]:
    for rows in devices.batches(len(samples), 1):
      group = [samples[row] for row in rows]
      text_BT = devices.put(np.stack([words.ids(sample.caption) for sample in group]))
      codes_BN = devices.put(np.stack([sample.codes_N for sample in group]).astype(np.int32))
      weights_ABNT = np.asarray(attention.on_text(model.transformer_params, text_BT, codes_BN, **how), np.float64)
      for sample, weights_ANT in zip(group[: rows[-1] - rows[0] + 1], weights_ABNT.swapaxes(0, 1)):
        made = _sheet(sample, weights_ANT, _read(words, sample.caption), kinds)
        progress()
        yield made

  return all_of


def _sheet(
  sample: Sample, weights_ANT: np.ndarray, read: list[tuple[str, list[int]]], kinds: Sequence[str]
) -> Image.Image:
  rows = attention_sheet.rows(weights_ANT, [places for _, places in read], kinds)
  return attention_sheet.sheet(sample.image_HWC, [word for word, _ in read], rows)


def _read(words: Tokenizer, caption: str) -> list[tuple[str, list[int]]]:
  """The words, and which tokens of theirs the transformer reads."""
  most = words.cfg.length - 1
  within = [(word, [place for place in places if place < most]) for word, places in words.words(caption)]
  return [(word, places) for word, places in within if places]
