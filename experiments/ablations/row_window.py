"""Row attention: a window over the raster that crosses the ends of rows, or the row itself (the paper's figure 11).

Claim    figure 11 draws a window as long as a row; programs that keep to the row lose what is above it in three layers
         of four (DALLE-pytorch's axial_row). The paper has no such comparison
Run      dalle ablate experiments/ablations/row_window.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics


def pack() -> Pack:
  """The two readings of "row", by the held-out loss of image tokens."""
  return Pack(
    title="Row attention as a window over the raster, or within the row",
    group="attention",
    paper=Paper(
      rows=(14,),
      says="the figure of the masks shows a window that reaches back over the row above; nothing is compared",
      where="appendix B.1, figure 11",
    ),
    base=bases.transformer,
    stage="transformer",
    arms=(
      Arm(name="window"),
      Arm(
        name="same row",
        change=lambda base: bases.changed(
          base, "transformer", model={"mix": ("row_only", "column", "row_only", "row_only")}
        ),
        fields=("stages.transformer.objective.model.mix",),
      ),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.01),
    also=(metrics.text_loss(smallest=0.01),),
    claims=(Better(arm="window", than="same row"),),
  )
