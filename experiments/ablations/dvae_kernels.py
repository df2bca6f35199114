"""The convolutions beside the relaxation: 1x1 or 3x3 (the paper, 2.1; claim 4 of its ablations).

Claim    with 1x1, the last of the encoder and the first of the decoder, training generalises better to the true bound;
         a statement, no number
Run      dalle ablate experiments/ablations/dvae_kernels.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics

KERNEL = "stages.dvae.objective.model.code_kernel"


def pack() -> Pack:
  """Two sizes of kernel, by the true bound on held-out pictures."""
  return Pack(
    title="The convolutions beside the relaxation",
    group="dvae",
    paper=Paper(
      rows=(4,),
      says="a smaller receptive field beside the relaxation generalises better to the true bound",
      where="section 2.1",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="1x1"),
      Arm(name="3x3", change=lambda base: bases.changed(base, "dvae", model={"code_kernel": 3}), fields=(KERNEL,)),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.elbo_hard(smallest=0.02),
    also=(
      metrics.elbo_gap(smallest=0.01),
      metrics.nll(smallest=0.02),
      metrics.psnr(smallest=0.2),
      metrics.usage(smallest=0.05),
    ),
    claims=(Better(arm="1x1", than="3x3"),),
  )
