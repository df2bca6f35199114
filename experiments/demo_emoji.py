"""The demo on real pictures: emoji and what the Unicode CLDR calls them, at 32x32 pixels.

Run      make demo-emoji      (prepares runs/demo-emoji-data, trains in runs/demo-emoji, writes its index.html)
"""

import demo

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.experiment import Experiment
from dalle_jax.models import dvae


def experiment(
  data: str = "runs/demo-emoji-data", dvae_steps: int = 2500, transformer_steps: int = 5000, clip_steps: int = 800
) -> Experiment:
  """All three stages, meant for half an hour on two cores."""
  return demo.small(
    name="demo-emoji",
    data=data,
    words=TokenizerConfig(vocab=4096, length=32, spaces=False, dropout=0.0),
    codes=dvae.Config(image=32, vocab=2048, hidden=48, groups=3, blocks=1, code_dim=64, pool="fold"),
    layers=4,
    heads=4,
    patch=8,
    steps=(dvae_steps, transformer_steps, clip_steps),
  )
