"""The weight of the KL: 6.6, 1 or 0, by what is reconstructed (the paper, 2.1; claim 6 of its ablations).

Claim    6.6 gives better codebook usage and in the end a lower reconstruction error than less; a statement, no number
Run      dalle ablate experiments/ablations/dvae_beta.py

The two packs share their runs: this one is decided by the reconstruction, the other by the usage.
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.experiment import Experiment

KL = "stages.dvae.objective.kl"


def pack() -> Pack:
  """Three weights, by the PSNR of pictures decoded from their most likely codes."""
  return Pack(
    title="The weight of the KL, by reconstruction",
    group="dvae",
    paper=Paper(
      rows=(6,),
      says="raising beta to 6.6 gives better codebook usage and a lower reconstruction error at the end of training",
      where="section 2.1, appendix A.2",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="6.6"),
      *(
        Arm(name=name, change=lambda base, beta=beta: _weighing(base, beta), fields=(f"{KL}.end",))
        for name, beta in (("1", 1.0), ("0", 0.0))
      ),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.psnr(smallest=0.2),
    also=(
      metrics.usage(smallest=0.05),
      metrics.perplexity(smallest=2.0),
      metrics.nll(smallest=0.02),
      metrics.elbo_hard(smallest=0.02),
    ),
    claims=(
      Better(arm="6.6", than="1"),
      Better(arm="6.6", than="0"),
    ),
  )


def _weighing(base: Experiment, beta: float) -> Experiment:
  kl = dataclasses.replace(base.stage("dvae").objective.kl, end=beta)
  return bases.changed(base, "dvae", objective={"kl": kl})
