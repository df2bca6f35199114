"""Three readings of the convolution in the last layer: the paper's figure 11, DALLE-pytorch's and ruDALLE's.

Claim    none in the paper, whose figure of 3x3 cells wraps around columns; other programs take a square whose corner
         is the query, or the causal half of one around it
Run      dalle ablate experiments/ablations/conv_kinds.py
"""

import bases

from dalle_jax.ablations import Arm, Pack, Paper, Same, metrics

LAST = "stages.transformer.objective.model.last"


def pack() -> Pack:
  """The kinds of convolution, by the held-out loss of image tokens."""
  return Pack(
    title="The convolution of the last layer as three programs read it",
    group="attention",
    paper=Paper(
      rows=(14,),
      says="one figure of 3x3 cells, from which 11x11 is inferred; other readings are not compared",
      where="appendix B.1, figure 11",
    ),
    base=bases.transformer,
    stage="transformer",
    arms=(
      Arm(name="wrapped"),
      Arm(
        name="corner",
        change=lambda base: bases.changed(base, "transformer", model={"last": "conv_corner"}),
        fields=(LAST,),
      ),
      Arm(
        name="clamped",
        change=lambda base: bases.changed(base, "transformer", model={"last": "conv_clamped"}),
        fields=(LAST,),
      ),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.01),
    claims=(Same(arm="wrapped", other="corner"), Same(arm="wrapped", other="clamped")),
  )
