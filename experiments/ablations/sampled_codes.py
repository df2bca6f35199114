"""Codes for the second stage: the most likely ones, or drawn from what the dVAE gives each position (claim 11).

Claim    drawn codes regularise a model that over-fits; the paper's under-fits, so it takes the most likely ones. A
         statement, no number
Run      dalle ablate experiments/ablations/sampled_codes.py
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Scale, metrics
from dalle_jax.experiment import Codes, Experiment

STAGE = "transformer"
CROPS = 4  # of each picture, with codes of their own where they are drawn


def pack() -> Pack:
  """Both, by the held-out loss of the most likely codes."""
  return Pack(
    title="Most likely and drawn codes",
    group="dvae",
    paper=Paper(
      rows=(11,),
      says="drawing the codes regularises models that over-fit; where they under-fit the likely codes are taken",
      where="section 2.2",
    ),
    base=_base,
    stage=STAGE,
    arms=(
      Arm(name="most likely"),
      Arm(
        name="drawn",
        change=lambda base: bases.changed(base, STAGE, examples=Codes(crops=CROPS, sampled=True)),
        fields=(f"stages.{STAGE}.examples.sampled",),
      ),
      bases.control(STAGE),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.02),
    also=(metrics.training_loss(smallest=0.02, key="loss_image"),),
    claims=(Better(arm="most likely", than="drawn"),),
  )


def _base(scale: Scale) -> Experiment:
  """A transformer of the published dVAE's codes: clusters of patches have no probabilities to be drawn by."""
  if scale.name == "paper":
    return bases.changed(bases.transformer(scale), STAGE, objective={"dvae": None}, examples=Codes(crops=CROPS))
  vae, old = bases.dvae(scale).stage("dvae"), bases.transformer(scale)
  own = old.stage(STAGE)
  model = dataclasses.replace(own.objective.model, image_vocab=vae.objective.model.vocab, grid=vae.objective.model.grid)
  objective = dataclasses.replace(own.objective, model=model)
  stages = {"dvae": vae, STAGE: dataclasses.replace(own, objective=objective, examples=Codes(crops=CROPS))}
  return dataclasses.replace(old, name=f"drawn-codes-{scale.name}", stages=stages)
