"""The distance to real pictures when both are blurred, radius 0, 1, 2, 4 (the paper, 3.1 and figure 9; claim 29).

Claim    FID of the paper's model rises with the radius from 28.6 to 28.8, 46.8, 85.3 (COCO, read off the figure), and
         that of models before it rises sooner: codes keep what is coarse, and fine detail is the dVAE's to lose. Of
         smaller pictures than 256 pixels the radius is as much smaller
Run      dalle ablate experiments/ablations/blur.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.sampling.choose import SamplingConfig


def pack() -> Pack:
  """One run and one draw for all radii, by the Frechet distance in the space of the run's own CLIP."""
  return Pack(
    title="Blurred pictures",
    group="sampling",
    paper=Paper(
      rows=(29,),
      says="the distance to blurred real pictures hardly grows at radius 1 and grows fast after it",
      where="section 3.1 and figure 9(a)",
      numbers="FID on COCO, off the figure: 28.6 at radius 0, 28.8 at 1, 46.8 at 2, 85.3 at 4, 87.3 at 8",
    ),
    base=bases.clip,
    stage="transformer",
    arms=(
      *(Arm(name=f"radius {radius:g}", setting=Drawing(blur=radius)) for radius in (0.0, 1.0, 2.0, 4.0)),
      Arm(name="temperature 3", setting=Drawing(sampling=SamplingConfig(temperature=3.0))),
    ),
    control="temperature 3",
    metric=sampled.fd_clip(smallest=0.01),
    claims=(
      Same(arm="radius 1", other="radius 0"),
      Better(arm="radius 1", than="radius 2"),
      Better(arm="radius 2", than="radius 4"),
    ),
  )
