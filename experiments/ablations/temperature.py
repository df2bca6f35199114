"""The temperature of sampling: 1 as in the paper, 0.85, 0.5 (the paper, 5; claim 31; GLIDE, table 3).

Claim    the paper draws at 1 and reports no other. GLIDE's raters liked the same model's pictures better at 0.85
Run      dalle ablate experiments/ablations/temperature.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.sampling.choose import SamplingConfig


def pack() -> Pack:
  """One run for all, by how much of what captions say is drawn right."""
  return Pack(
    title="Temperature",
    group="sampling",
    paper=Paper(
      rows=(31,),
      says="pictures are drawn at temperature 1; GLIDE later found those drawn at 0.85 preferred, realism and caption",
      where="section 2.6; GLIDE, table 3",
    ),
    base=bases.clip,
    stage="transformer",
    arms=(
      Arm(name="1", setting=Drawing()),
      *(_at(temperature) for temperature in (0.85, 0.5, 3.0)),
    ),
    control="3",
    metric=sampled.aspects(smallest=0.02),
    also=(sampled.composition(smallest=0.03), sampled.clip_score(smallest=1.0), sampled.fd_clip(smallest=0.02)),
    claims=(Better(arm="0.85", than="1"),),
  )


def _at(temperature: float) -> Arm:
  return Arm(name=f"{temperature:g}", setting=Drawing(sampling=SamplingConfig(temperature=temperature)))
