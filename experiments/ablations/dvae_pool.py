"""How the dVAE's encoder halves its sides: by the maximum or the mean (the paper, 2.1; claim 7 of its ablations).

Claim    max-pooling gives a better bound than average-pooling; a statement, no number
Run      dalle ablate experiments/ablations/dvae_pool.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics

POOL = "stages.dvae.objective.model.pool"


def pack() -> Pack:
  """Two ways of pooling, by the true bound on held-out pictures."""
  return Pack(
    title="Pooling by the maximum or the mean",
    group="dvae",
    paper=Paper(
      rows=(7,),
      says="max-pooling gives a better bound than average-pooling",
      where="section 2.1",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="max"),
      Arm(name="average", change=lambda base: bases.changed(base, "dvae", model={"pool": "average"}), fields=(POOL,)),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.elbo_hard(smallest=0.02),
    also=(
      metrics.nll(smallest=0.02),
      metrics.psnr(smallest=0.2),
      metrics.usage(smallest=0.05),
    ),
    claims=(Better(arm="max", than="average"),),
  )
