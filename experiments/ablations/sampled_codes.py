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
      says="drawing the codes is a regulariser for models that over-fit; where they under-fit the likely codes are taken",
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
      Arm(
        name="1/30 of the rate",
        change=lambda base: bases.slower(base, STAGE),
        fields=(f"stages.{STAGE}.optimizer.lr",),
      ),
    ),
    control="1/30 of the rate",
    metric=metrics.image_loss(smallest=0.02),
    also=(metrics.training_loss(smallest=0.02, key="loss_image"),),
    claims=(Better(arm="most likely", than="drawn"),),
  )


def _base(scale: Scale) -> Experiment:
  """A transformer of the published dVAE's codes: clusters of patches have no probabilities to be drawn by."""
  if scale.name == "paper":
    return bases.changed(bases.transformer(scale), STAGE, examples=Codes(crops=CROPS))
  vae, whole = bases.dvae(scale).stage("dvae"), bases.transformer(scale)
  whole = dataclasses.replace(whole, name=f"drawn-codes-{scale.name}", stages={"dvae": vae} | _second(whole, vae))
  return bases.changed(whole, STAGE, examples=Codes(crops=CROPS))


def _second(whole: Experiment, vae) -> dict:
  codes = {"image_vocab": vae.objective.model.vocab, "grid": vae.objective.model.grid}
  stage = whole.stage(STAGE)
  model = dataclasses.replace(stage.objective.model, **codes)
  return {STAGE: dataclasses.replace(stage, objective=dataclasses.replace(stage.objective, model=model))}
