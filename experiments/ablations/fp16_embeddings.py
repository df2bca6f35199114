"""Embeddings in float32 or in float16 (the paper, D; claim 19 of its ablations).

Claim    runs with embeddings in float16 sometimes diverged early; a statement, no number
Run      dalle ablate experiments/ablations/fp16_embeddings.py
"""

import _deep
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics


def pack() -> Pack:
  """Two formats of the embeddings and their gradients, by the training loss."""
  return Pack(
    title="Embeddings in float16",
    group="numerics",
    paper=Paper(
      rows=(19,),
      says="with embeddings in float16 training sometimes diverged early; they are kept in float32",
      where="appendix D",
    ),
    base=_deep.experiment,
    stage="transformer",
    arms=(
      Arm(name="float32 embeddings"),
      Arm(
        name="float16 embeddings",
        change=lambda base: bases.changed(base, "transformer", objective={"half_embeddings": True}),
        fields=(f"{_deep.OBJECTIVE}.half_embeddings",),
      ),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.01),
    also=(metrics.image_loss(smallest=0.01), metrics.left_out(smallest=0.05)),
    claims=(Better(arm="float32 embeddings", than="float16 embeddings"),),
  )
