"""A person's own pictures with captions: three stages whose steps are chosen from how many pictures there are.

Run      dalle data prepare FOLDER --out runs/mine-data
         dalle train experiments/pictures.py --data runs/mine-data --size xs --workdir runs/mine
         dalle sample runs/mine "a caption"

size     xs  32x32 pixels, 8x8 codes, 1.6 million parameters in the transformer: for a laptop
         s   128x128 pixels, 16x16 codes, 26 million: for a GPU
         m   256x256 pixels, 32x32 codes, 0.3 billion: for a few GPUs

At s and m the dVAE learns as in the paper; at xs as in the demo, where the encoder stays a table of patches.
"""

import dataclasses
from typing import Literal

import demo

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.prepared import open_prepared
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment, Stage
from dalle_jax.models import dvae
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.schedules import Cosine
from dalle_jax.training.optimizers import AdamW

CODES = {
  "xs": dvae.Config(image=32, vocab=1024, hidden=64, groups=3, blocks=1, code_dim=64, pool="fold"),
  "s": dvae.Config(image=128, vocab=2048, hidden=64, groups=4, blocks=1),
  "m": dvae.Config(image=256, vocab=8192, hidden=128, groups=4, blocks=2),
}
LAYERS_HEADS_PATCH = {"xs": (4, 4, 8), "s": (8, 16, 16), "m": (24, 32, 32)}
WORDS = {
  "xs": TokenizerConfig(vocab=2048, length=64),
  "s": TokenizerConfig(vocab=8192, length=128),
  "m": TokenizerConfig(),
}
EPOCHS = {"dvae": 40, "transformer": 60, "clip": 60}
LEAST, MOST = 300, 200_000


def experiment(
  data: str = "data/pictures", size: Literal["xs", "s", "m"] = "xs", examples: int | None = None
) -> Experiment:
  """All three stages; examples: how many pictures the steps are chosen for, those of `data` if not said.

  Raises UserError where neither is there, or for none.
  """
  if examples is None:
    prepared = open_prepared(data)
    examples = len(prepared.source(prepared.splits[0]))
  if examples < 1:
    raise UserError(f"got --examples {examples}, wanted at least 1")
  layers, heads, patch = LAYERS_HEADS_PATCH[size]
  steps = (_steps("dvae", examples, 16), _steps("transformer", examples, 16), _steps("clip", examples, 64))
  found = demo.small(
    name=f"pictures-{size}",
    data=data,
    words=WORDS[size],
    codes=CODES[size],
    layers=layers,
    heads=heads,
    patch=patch,
    steps=steps,
    crops=4,
  )
  return found if size == "xs" else dataclasses.replace(found, stages=found.stages | {"dvae": _as_published(found)})


def _as_published(found: Experiment) -> Stage:
  """The dVAE's stage with the paper's bound, relaxation and rates, over this stage's steps (paper A.2)."""
  stage, steps = found.stages["dvae"], found.stages["dvae"].steps
  kl = Cosine(start=0.0, end=6.6, steps=max(1, steps // 20))
  temperature = Cosine(start=1.0, end=1 / 16, steps=max(1, steps // 2))
  return dataclasses.replace(
    stage,
    objective=DvaeElbo(model=stage.objective.model, kl=kl, temperature=temperature),
    optimizer=AdamW(lr=Cosine(start=1e-4, end=1.25e-6, steps=steps), decay=1e-4, ema=0.999),
  )


def _steps(stage: str, examples: int, batch: int) -> int:
  """So many times through the pictures, within reason."""
  return min(MOST, max(LEAST, EPOCHS[stage] * examples // batch))
