"""Learned pads against masked ones, on captions like those trained on (the paper, 2.2; claim 12).

Claim    a learned vector for every absent token has a higher held-out loss than attention that leaves them out; a
         statement, no number. Its other half, that it serves unlike captions better, is pads_unseen.py: the same runs
Run      dalle ablate experiments/ablations/pads.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Metric, Pack, Paper, metrics

STAGE = "transformer"


def pack() -> Pack:
  """Which has the lower loss on held-out captions of the kinds that were trained on."""
  return compared(
    "Learned and masked pads, on captions like those of training",
    "masking absent text tokens gives a lower validation loss than learning a vector for each position",
    metrics.image_loss(smallest=0.01, split="valid"),
    Better(arm="masked", than="learned"),
  )


def compared(title: str, says: str, metric: Metric, claim: Better) -> Pack:
  """The two kinds of pads, by what the metric says."""
  return Pack(
    title=title,
    group="text",
    paper=Paper(rows=(12,), says=says, where="section 2.2, on Conceptual Captions"),
    base=bases.transformer,
    stage=STAGE,
    arms=(
      Arm(name="learned"),
      Arm(
        name="masked",
        change=lambda base: bases.changed(base, STAGE, model={"mask_pads": True}),
        fields=(f"stages.{STAGE}.objective.model.mask_pads",),
      ),
      bases.control(STAGE),
    ),
    control=bases.CONTROL,
    metric=metric,
    claims=(claim,),
  )
