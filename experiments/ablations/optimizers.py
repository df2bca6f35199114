"""AdamW, Adafactor and Muon at one rate (the paper, B.2, has AdamW; peers have Adafactor and Shampoo).

Claim    none of the paper, which trains by AdamW alone. All three make steps of about the same length at a rate, so
         they share it; a rate searched for each could put them in another order
Run      dalle ablate experiments/ablations/optimizers.py
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.experiment import Experiment
from dalle_jax.training.adafactor import Adafactor
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW, Optimizer

STAGE = "transformer"
SHARED = tuple(field.name for field in dataclasses.fields(Optimizer))


def pack() -> Pack:
  """Three optimizers, by the held-out loss of image tokens."""
  return Pack(
    title="Optimizers",
    group="optimizer",
    paper=Paper(rows=(), says="AdamW with a small b2; no other optimizer is reported", where="appendix B.2"),
    base=bases.transformer,
    stage=STAGE,
    arms=(
      Arm(name="AdamW"),
      Arm(name="Muon", change=_muon, fields=(f"stages.{STAGE}.optimizer",)),
      Arm(name="Adafactor", change=_adafactor, fields=(f"stages.{STAGE}.optimizer",)),
      bases.control(STAGE),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.02),
    also=(metrics.text_loss(smallest=0.02), metrics.training_loss(smallest=0.02)),
    claims=(Better(arm="AdamW", than="Adafactor"), Better(arm="Muon", than="AdamW")),
  )


def _muon(base: Experiment) -> Experiment:
  own = base.stage(STAGE).optimizer
  return bases.changed(base, STAGE, optimizer=Muon(**{f.name: getattr(own, f.name) for f in dataclasses.fields(AdamW)}))


def _adafactor(base: Experiment) -> Experiment:
  """With momentum and steps that do not follow the parameters' size, as AdamW's do not; all matrices factored."""
  own = base.stage(STAGE).optimizer
  kept = {name: getattr(own, name) for name in SHARED}
  return bases.changed(base, STAGE, optimizer=Adafactor(**kept, relative=False, momentum=own.b1, factor_from=32))
