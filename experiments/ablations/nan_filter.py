"""The filter of Inf and NaN where gradients enter and leave a branch (the paper, D; claim 22 of its ablations).

Claim    without it an overflow in one block also lowers the scales of all earlier blocks, needlessly; a statement
Run      dalle ablate experiments/ablations/nan_filter.py

The control, one scale of all branches, goes down with whichever overflows: its scale is the lowest of all by its rule.
"""

import _deep

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics, numerics

SCALES = f"{_deep.OBJECTIVE}.scales"


def pack() -> Pack:
  """With and without the filter, by how high the scales stand."""
  return Pack(
    title="The filter of Inf and NaN",
    group="numerics",
    paper=Paper(
      rows=(22,),
      says="without the filter, an overflow in one block lowers the scales of all blocks before it, needlessly",
      where="appendix D",
    ),
    base=_deep.experiment,
    stage="transformer",
    arms=(
      Arm(name="filter"),
      Arm(name="no filter", change=lambda base: _deep.scaled(base, filters=False), fields=(f"{SCALES}.filters",)),
      Arm(name="one scale", change=lambda base: _deep.scaled(base, each=False), fields=(f"{SCALES}.each",)),
    ),
    control="one scale",
    metric=numerics.scale(smallest=0.5),
    also=(
      numerics.underflow(smallest=0.01, where="early"),
      numerics.underflow(smallest=0.01),
      metrics.left_out(smallest=0.05),
      metrics.training_loss(smallest=0.02),
    ),
    claims=(Better(arm="filter", than="no filter"),),
    plots=(numerics.over_time(),),
  )
