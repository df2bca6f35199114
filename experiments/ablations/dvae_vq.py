"""The relaxation, or a VQ-VAE whose codebook is a moving average (OpenAI's page on DALL-E; claim 10 of its ablations).

Claim    the relaxation needs no codebook of its own, no loss or moving average for it and no revival of dead codes;
         a statement, no number
Run      dalle ablate experiments/ablations/dvae_vq.py

The same encoder and decoder, rate, pictures and likelihood. Codes cost ln V a position in both, so the deciding figure
is the negative log-likelihood of pixels decoded from the codes that the second stage would read. One VQ-VAE revives
codes that fewer than one position in ten batches is nearest to.
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.experiment import Experiment
from dalle_jax.models.vq import VqConfig
from dalle_jax.objectives.vq import VqVae

OBJECTIVE = "stages.dvae.objective"


def pack() -> Pack:
  """The relaxation and two VQ-VAEs, by the negative log-likelihood of pixels from the codes."""
  return Pack(
    title="Relaxation or vector quantisation",
    group="dvae",
    paper=Paper(
      rows=(10,),
      says="the relaxation does without a codebook loss, a moving average of it and the revival of dead codes",
      where="the blog",
    ),
    base=bases.dvae,
    stage="dvae",
    arms=(
      Arm(name="relaxation"),
      Arm(name="VQ", change=_vq, fields=(OBJECTIVE,)),
      Arm(name="VQ, revived", change=lambda base: _vq(base, revive=0.1), fields=(OBJECTIVE,)),
      bases.control("dvae"),
    ),
    control=bases.CONTROL,
    metric=metrics.nll(smallest=0.02),
    also=(
      metrics.psnr(smallest=0.2),
      metrics.usage(smallest=0.05),
      metrics.perplexity(smallest=2.0),
    ),
    claims=(
      Better(arm="relaxation", than="VQ"),
      Better(arm="relaxation", than="VQ, revived"),
    ),
  )


def _vq(base: Experiment, revive: float = 0.0) -> Experiment:
  old = base.stage("dvae").objective
  own = VqVae(
    model=VqConfig(**vars(old.model)), revive=revive, likelihood=old.likelihood, spread_levels=old.spread_levels
  )
  return dataclasses.replace(base, stages={"dvae": dataclasses.replace(base.stage("dvae"), objective=own)})
