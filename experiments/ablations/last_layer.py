"""The last layer's attention: convolution, row, or all that came before (the paper, B.1; claim 14 of its ablations).

Claim    a convolution in the last layer is a little better than row or dense attention there; a statement, no number
Run      dalle ablate experiments/ablations/last_layer.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics

LAST = "stages.transformer.objective.model.last"


def pack() -> Pack:
  """Four ways of the last layer's attention, by the held-out loss of image tokens."""
  return Pack(
    title="The last layer's attention",
    group="attention",
    paper=Paper(
      rows=(14,),
      says="a convolution in the last layer gains a little over row attention and over dense attention",
      where="appendix B.1",
    ),
    base=bases.transformer,
    stage="transformer",
    arms=(
      Arm(name="conv"),
      Arm(name="row", change=lambda base: bases.changed(base, "transformer", model={"last": "row"}), fields=(LAST,)),
      Arm(name="full", change=lambda base: bases.changed(base, "transformer", model={"last": "full"}), fields=(LAST,)),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.01),
    also=(metrics.text_loss(smallest=0.01), metrics.training_loss(smallest=0.01)),
    claims=(Better(arm="conv", than="row"), Better(arm="conv", than="full")),
  )
