"""What the dVAE's residual branches are multiplied by (the paper, 2.1; claim 5 of its ablations).

Claim    a small constant, one over the square of the layers, is needed for a stable start; a statement, no number
Run      dalle ablate experiments/ablations/dvae_gain.py

A layer is a block of the encoder or the decoder, of which the paper has 8 each: 1/64.
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, first_stage, metrics
from dalle_jax.experiment import Experiment

GAIN = "stages.dvae.objective.model.gain"


def pack() -> Pack:
  """Three gains, by the training loss of the first tenth of the run."""
  return Pack(
    title="The gain of residual branches",
    group="dvae",
    paper=Paper(
      rows=(5,),
      says="a small gain of the residual branches is needed for a stable start",
      where="section 2.1",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="1/layers^2"),
      Arm(name="1/layers", change=_one_over_layers, fields=(GAIN,)),
      Arm(name="1", change=lambda base: bases.changed(base, "dvae", model={"gain": 1.0}), fields=(GAIN,)),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=first_stage.early_loss(smallest=0.05),
    also=(
      metrics.left_out(smallest=0.001, stage="dvae"),
      metrics.elbo_hard(smallest=0.02),
      metrics.psnr(smallest=0.2),
    ),
    claims=(
      Better(arm="1/layers^2", than="1/layers"),
      Better(arm="1/layers^2", than="1"),
    ),
  )


def _one_over_layers(base: Experiment) -> Experiment:
  own = base.stage("dvae").objective.model
  return bases.changed(base, "dvae", model={"gain": 1 / (own.groups * own.blocks)})
