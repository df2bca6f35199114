"""PowerSGD's rank against uncompressed gradients (the paper, 2.5 and appendix E, Table 2; claim 23 of its ablations).

Claim    at a rank of about a quarter of the width (512 of 1,920, 640 of 2,688, 896 of 3,968) the training loss is that
         of uncompressed gradients: a number; these were the least multiples of 128 without a gap in a run's first tenth
Run      dalle ablate experiments/ablations/powersgd_rank.py
"""

import _compressed
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, metrics


def pack() -> Pack:
  """The paper's share of the width, a 4th and a 14th of that, and no compression, by the training loss."""
  return Pack(
    title="PowerSGD's rank against uncompressed gradients",
    group="powersgd",
    paper=Paper(
      rows=(23,),
      says="a rank of 23 to 27 % of the width is the least without a gap in the training loss's first tenth",
      where="section 2.5, appendix E, Table 2",
      numbers="512 of 1,920, 640 of 2,688, 896 of 3,968: 83, 85 and 86 % less between machines",
    ),
    base=_compressed.transformer,
    stage="transformer",
    arms=(
      Arm(name="a quarter of the width"),
      _compressed.less("a 4th of that", 4),
      _compressed.less("a 14th of that", 14),
      _compressed.uncompressed("uncompressed"),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.02),
    also=(metrics.image_loss(smallest=0.01),),
    claims=(
      Same(arm="a quarter of the width", other="uncompressed"),
      Better(arm="a quarter of the width", than="a 14th of that"),
    ),
  )
