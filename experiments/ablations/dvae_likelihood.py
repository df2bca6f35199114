"""The likelihood of pixels: logit-Laplace, or l1 and l2 as the likelihoods they are (the paper, A.3; claim 8).

Claim    l1 and l2 have mass where no pixel can be, which logit-Laplace has not; argued, not measured
Run      dalle ablate experiments/ablations/dvae_likelihood.py

All three are densities of the same mapped pixels in (0.1, 0.9), in nats a sub-pixel, with a learned scale for each
sub-pixel, decoded from the most likely codes: that is what the deciding figure compares. PSNR is of their medians.
Mass on no pixel is what each has beyond (0.1, 0.9), where logit-Laplace has some as well.
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.models.likelihoods import Gaussian, Laplace

LIKELIHOOD = "stages.dvae.objective.likelihood"


def pack() -> Pack:
  """Three likelihoods, by the negative log-density of held-out pixels."""
  return Pack(
    title="The likelihood of pixels",
    group="dvae",
    paper=Paper(
      rows=(8,),
      says="l1 and l2 losses are densities on all numbers, so that mass lies outside of the range of pixels",
      where="appendix A.3",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="logit-Laplace"),
      Arm(
        name="l1",
        change=lambda base: bases.changed(base, "dvae", objective={"likelihood": Laplace()}),
        fields=(LIKELIHOOD,),
      ),
      Arm(
        name="l2",
        change=lambda base: bases.changed(base, "dvae", objective={"likelihood": Gaussian()}),
        fields=(LIKELIHOOD,),
      ),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.nll(smallest=0.02),
    also=(
      metrics.outside(smallest=0.01),
      metrics.psnr(smallest=0.2),
      metrics.usage(smallest=0.05),
      metrics.elbo_hard(smallest=0.02),
    ),
    claims=(
      Better(arm="logit-Laplace", than="l1"),
      Better(arm="logit-Laplace", than="l2"),
    ),
  )
