"""How many codes there are: all, a quarter, a sixteenth (the paper, 2; claim 9 of its ablations).

Claim    8192 codes make up for halving the side three times; a motive, not measured
Run      dalle ablate experiments/ablations/dvae_codes.py

A quarter of the codes takes two bits from each position.
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.experiment import Experiment

VOCAB = "stages.dvae.objective.model.vocab"


def pack() -> Pack:
  """Three sizes of the codebook, by the PSNR of pictures decoded from their most likely codes."""
  return Pack(
    title="The number of codes",
    group="dvae",
    paper=Paper(
      rows=(9,),
      says="a large codebook is to make up for the loss of information that comes with halving the side three times",
      where="section 2",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="all"),
      Arm(name="1/4", change=lambda base: _of(base, 4), fields=(VOCAB,)),
      Arm(name="1/16", change=lambda base: _of(base, 16), fields=(VOCAB,)),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.psnr(smallest=0.2),
    also=(
      metrics.nll(smallest=0.02),
      metrics.elbo_hard(smallest=0.02),
      metrics.perplexity(smallest=2.0),
      metrics.usage(smallest=0.05),
    ),
    claims=(
      Better(arm="all", than="1/4"),
      Better(arm="all", than="1/16"),
    ),
  )


def _of(base: Experiment, parts: int) -> Experiment:
  return bases.changed(base, "dvae", model={"vocab": base.stage("dvae").objective.model.vocab // parts})
