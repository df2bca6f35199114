"""Weight decay on matrices alone, or on norms and embeddings too (the paper, B.2, does not say; DALLE-pytorch 170).

Claim    none of the paper. Users of DALLE-pytorch saw pictures go brown while the loss fell; norms and biases were then
         left out of decay
Run      dalle ablate experiments/ablations/weight_decay.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics, sampled
from dalle_jax.ablations.drawing import Drawing

STAGE = "transformer"
FIELD = f"stages.{STAGE}.optimizer.decay_"
DRAWING = Drawing()  # said by each arm, so that a figure of other numbers of captions is not taken for this one


def pack() -> Pack:
  """What decays, by how much of what captions say is drawn right; the loss beside it."""
  return Pack(
    title="What weight decay shrinks",
    group="optimizer",
    paper=Paper(rows=(), says="a decay of 0.045, of which parameters is not said", where="appendix B.2"),
    base=bases.transformer,
    stage=STAGE,
    arms=(
      Arm(name="matrices", setting=DRAWING),
      _decaying("and norms", "norms"),
      _decaying("and embeddings", "embeddings"),
      _decaying("all", "norms", "embeddings"),
      bases.control(STAGE, setting=DRAWING),
    ),
    control=bases.CONTROL,
    metric=sampled.aspects(smallest=0.02),
    also=(sampled.composition(smallest=0.03), metrics.image_loss(smallest=0.01), metrics.training_loss(smallest=0.01)),
    claims=(Better(arm="matrices", than="all"),),
  )


def _decaying(name: str, *what: str) -> Arm:
  fields = {f"decay_{each}": True for each in what}
  return Arm(
    name=name,
    change=lambda base: bases.changed(base, STAGE, optimizer=fields),
    fields=tuple(f"{FIELD}{each}" for each in what),
    setting=DRAWING,
  )
