"""The demo at 64x64 pixels, eight to a code's side as in the paper, for an hour: the same three stages, longer.

Run      make demo-long       (prepares runs/demo-long-data, trains in runs/demo-long, writes runs/demo-long/index.html)
"""

import demo

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.experiment import Experiment
from dalle_jax.models import dvae


def experiment(
  data: str = "runs/demo-long-data", dvae_steps: int = 800, transformer_steps: int = 8500, clip_steps: int = 3500
) -> Experiment:
  """All three stages, meant for an hour on two cores."""
  return demo.small(
    name="demo-long",
    data=data,
    words=TokenizerConfig(vocab=512, length=32, spaces=False, dropout=0.0),
    codes=dvae.Config(image=64, vocab=2048, hidden=32, groups=4, blocks=1, code_dim=64, pool="fold"),
    layers=4,
    heads=4,
    patch=8,
    steps=(dvae_steps, transformer_steps, clip_steps),
  )
