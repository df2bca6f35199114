"""The layers' kinds of attention: the paper's mix against one kind for all layers (the paper, 2.2 and B.1).

Claim    row, column, row, row in turn serve in place of dense attention; the paper shows no comparison
Run      dalle ablate experiments/ablations/mix.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, metrics
from dalle_jax.experiment import Experiment

MIX = "stages.transformer.objective.model.mix"
LAST = "stages.transformer.objective.model.last"


def pack() -> Pack:
  """The mix, every layer dense, all rows and all columns, by the held-out loss of image tokens."""
  return Pack(
    title="The paper's mix of attention against one kind in all layers",
    group="attention",
    paper=Paper(
      rows=(14, 15),
      says="layers of row and column attention with a convolution at the end do the work of dense ones; not compared",
      where="section 2.2, appendix B.1",
    ),
    base=bases.transformer,
    stage="transformer",
    arms=(
      Arm(name="mix"),
      Arm(name="all full", change=lambda base: _all(base, "full"), fields=(MIX, LAST)),
      Arm(name="all row", change=lambda base: _all(base, "row"), fields=(MIX, LAST)),
      Arm(name="all column", change=lambda base: _all(base, "column"), fields=(MIX, LAST)),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.01),
    also=(metrics.text_loss(smallest=0.01),),
    claims=(
      Same(arm="mix", other="all full"),
      Better(arm="mix", than="all row"),
      Better(arm="mix", than="all column"),
    ),
  )


def _all(base: Experiment, kind: str) -> Experiment:
  return bases.changed(base, "transformer", model={"mix": (kind,), "last": None})
