"""How the dVAE's temperature falls: along a cosine or in a straight line (the paper, 2.1; claim 3 of its ablations).

Claim    a linear schedule of the temperature usually diverged; a statement, no number
Run      dalle ablate experiments/ablations/dvae_schedule.py

The paper does not say which part of a cosine it took: half a period is the usual reading, a quarter the one of another
program. An arm that diverges is reported as failed.
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, metrics
from dalle_jax.experiment import Experiment
from dalle_jax.schedules import Linear

TEMPERATURE = "stages.dvae.objective.temperature"


def pack() -> Pack:
  """Three ways from 1 to 1/16, by the true bound on held-out pictures."""
  return Pack(
    title="How the temperature falls",
    group="dvae",
    paper=Paper(
      rows=(3,),
      says="a cosine schedule is needed for stability: with a linear one training usually diverged",
      where="section 2.1, appendix A.2",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="cosine"),
      Arm(name="quarter of a cosine", change=_quarter, fields=(f"{TEMPERATURE}.shape",)),
      Arm(name="linear", change=_linear, fields=(TEMPERATURE,)),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.elbo_hard(smallest=0.02),
    also=(metrics.left_out(smallest=0.001, stage="dvae"), metrics.elbo_gap(smallest=0.01), metrics.psnr(smallest=0.2)),
    claims=(Better(arm="cosine", than="linear"), Same(arm="cosine", other="quarter of a cosine")),
  )


def _quarter(base: Experiment) -> Experiment:
  own = dataclasses.replace(base.stage("dvae").objective.temperature, shape="quarter")
  return bases.changed(base, "dvae", objective={"temperature": own})


def _linear(base: Experiment) -> Experiment:
  own = base.stage("dvae").objective.temperature
  straight = Linear(start=own.start, end=own.end, steps=own.steps)
  return bases.changed(base, "dvae", objective={"temperature": straight})
