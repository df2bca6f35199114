"""Logits in float32 or in float16 (the paper, 2.4 and D; claim 20 of its ablations).

Claim    logits computed and kept in float16 shift the training curve a little; a statement, no number
Run      dalle ablate experiments/ablations/fp16_logits.py
"""

import _deep
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics


def pack() -> Pack:
  """Two formats of the logits, their gradients and the heads that make them, by the training loss."""
  return Pack(
    title="Logits in float16",
    group="numerics",
    paper=Paper(
      rows=(20,),
      says="logits in float16 shift the training curve a little for the worse; they are computed and kept in float32",
      where="2.4 and appendix D",
    ),
    base=_deep.experiment,
    stage="transformer",
    arms=(
      Arm(name="float32 logits"),
      Arm(
        name="float16 logits",
        change=lambda base: bases.changed(base, "transformer", objective={"half_logits": True}),
        fields=(f"{_deep.OBJECTIVE}.half_logits",),
      ),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.01),
    also=(metrics.image_loss(smallest=0.01), metrics.left_out(smallest=0.05)),
    claims=(Better(arm="float32 logits", than="float16 logits"),),
  )
