"""PowerSGD's Q: fixed, warm-started or drawn anew for every update (the paper, appendix E; claim 24 of its ablations).

Claim    a fixed random Q trains as well as one that is the last update's, though its factors miss more of the gradient;
         drawing it anew costs much: statements, no numbers
Run      dalle ablate experiments/ablations/powersgd_q.py
"""

import _compressed
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, metrics
from dalle_jax.training.powersgd import Resampled, WarmStart


def pack() -> Pack:
  """Three ways of Q, by the training loss; beside it, the share of the gradient that factors miss."""
  return Pack(
    title="PowerSGD's Q: fixed, warm-started, drawn anew",
    group="powersgd",
    paper=Paper(
      rows=(24,),
      says="fixed and warm-started Q train alike, though the fixed one's factors miss more; drawing it anew hurts much",
      where="appendix E",
    ),
    base=_compressed.transformer,
    stage="transformer",
    arms=(
      Arm(name="fixed"),
      _compressed.arm("warm start", "q", q=WarmStart()),
      _compressed.arm("drawn anew", "q", q=Resampled()),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.02),
    also=(
      metrics.image_loss(smallest=0.01),
      metrics.training_loss(smallest=0.02, key="compression_error", unit="of what was held"),
    ),
    claims=(Same(arm="fixed", other="warm start"), Better(arm="fixed", than="drawn anew")),
  )
