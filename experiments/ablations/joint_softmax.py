"""One softmax over text and image keys, or one over each of them, added (the paper, 2.2; claim 13 of its ablations).

Claim    the joint softmax is better; a statement, no number
Run      dalle ablate experiments/ablations/joint_softmax.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics


def pack() -> Pack:
  """The two softmaxes, by the held-out loss of image tokens."""
  return Pack(
    title="One softmax over text and image, or one over each",
    group="attention",
    paper=Paper(
      rows=(13,),
      says="a single attention operation over text and image does better than two that are normalised separately",
      where="section 2.2, appendix B.1",
    ),
    base=bases.transformer,
    stage="transformer",
    arms=(
      Arm(name="joint"),
      Arm(
        name="separate",
        change=lambda base: bases.changed(base, "transformer", model={"softmax": "separate"}),
        fields=("stages.transformer.objective.model.softmax",),
      ),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.01),
    also=(metrics.text_loss(smallest=0.01),),
    claims=(Better(arm="joint", than="separate"),),
  )
