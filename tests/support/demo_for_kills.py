"""The demo for tests/faults: few steps, its transformer on pixels in stage-2 crops, captions with BPE dropout."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import demo

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage2Crop
from dalle_jax.experiment import Experiment, Pictures
from dalle_jax.models import dvae


def experiment(data: str = "data", dvae_steps: int = 40, transformer_steps: int = 80) -> Experiment:
  """The demo's sizes but for the codebook's."""
  codes = dvae.Config(image=32, vocab=64, hidden=48, groups=3, blocks=1, code_dim=64, pool="fold")
  found = demo.small(
    name="demo-for-kills",
    data=data,
    words=TokenizerConfig(vocab=512, length=32, spaces=False, dropout=0.1),
    codes=codes,
    layers=4,
    heads=4,
    patch=8,
    steps=(dvae_steps, transformer_steps, 1),
    patches_from=60,
  )
  often = {"save_every": 8, "log_every": 1}
  second = found.stages["transformer"]
  second = dataclasses.replace(
    second,
    objective=dataclasses.replace(second.objective, dvae=codes),
    examples=Pictures(crop=Stage2Crop(size=32), captions=True),
    show_every=transformer_steps,
    **often,
  )
  first = dataclasses.replace(found.stages["dvae"], show_every=dvae_steps, **often)
  return dataclasses.replace(found, stages={"dvae": first, "transformer": second})
