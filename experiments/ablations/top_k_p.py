"""Leaving unlikely codes out: none as in the paper, the 64 likeliest, those of 95 % (peers' settings).

Claim    none of the paper, which leaves no code out. minDALL-E draws of the 256 likeliest of 16,384, ruDALL-E of those
         that hold 99.5 %
Run      dalle ablate experiments/ablations/top_k_p.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.sampling.choose import SamplingConfig


def pack() -> Pack:
  """One run for all, by how much of what captions say is drawn right."""
  return Pack(
    title="Leaving unlikely codes out",
    group="sampling",
    paper=Paper(
      rows=(31,), says="no code is left out; programs that came after leave unlikely ones out", where="section 2.6"
    ),
    base=bases.clip,
    stage="transformer",
    arms=(
      Arm(name="all codes", setting=Drawing()),
      Arm(name="the 64 likeliest", setting=Drawing(sampling=SamplingConfig(top_k=64))),
      Arm(name="those of 95 %", setting=Drawing(sampling=SamplingConfig(top_p=0.95))),
      Arm(name="another's caption", setting=Drawing(shuffled=True)),
    ),
    control="another's caption",
    metric=sampled.aspects(smallest=0.02),
    also=(sampled.composition(smallest=0.03), sampled.clip_score(smallest=1.0), sampled.fd_clip(smallest=0.02)),
    claims=(Better(arm="the 64 likeliest", than="all codes"), Better(arm="those of 95 %", than="all codes")),
  )
