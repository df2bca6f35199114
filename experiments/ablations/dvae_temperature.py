"""How cold the dVAE's relaxation ends: 1, 1/2, 1/4, 1/16 (the paper, 2.1 and A.2; claim 2 of its ablations).

Claim    at 1/16 the relaxed bound on held-out pictures is as good as the true one; a statement, no number
Run      dalle ablate experiments/ablations/dvae_temperature.py

The gap is that of `DvaeElbo.evaluate`: the bound with relaxed codes at the run's last temperature, less the one with
hard codes of the same noise. A slower run has less of a gap, having learned less, so the control is a relaxation that
warms up, to 4.
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.experiment import Experiment

END = "stages.dvae.objective.temperature.end"


def pack() -> Pack:
  """Four last temperatures, by the gap between the relaxed bound and the true one."""
  return Pack(
    title="How cold the relaxation ends",
    group="dvae",
    paper=Paper(
      rows=(2,),
      says="annealing to 1/16 is enough to close the gap between the relaxed validation bound and the true one",
      where="section 2.1, appendix A.2",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="1/16"),
      *(
        Arm(name=name, change=lambda base, end=end: _ending(base, end), fields=(END,))
        for name, end in (("1/4", 1 / 4), ("1/2", 1 / 2), ("1", 1.0), ("4", 4.0))
      ),
    ),
    control="4",
    metric=metrics.elbo_gap(smallest=0.01),
    also=(metrics.elbo_hard(smallest=0.02), metrics.psnr(smallest=0.2), metrics.usage(smallest=0.05)),
    claims=(Better(arm="1/16", than="1/4"), Better(arm="1/16", than="1/2"), Better(arm="1/16", than="1")),
  )


def _ending(base: Experiment, end: float) -> Experiment:
  colder = dataclasses.replace(base.stage("dvae").objective.temperature, end=end)
  return bases.changed(base, "dvae", objective={"temperature": colder})
