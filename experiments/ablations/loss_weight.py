"""How much the text's loss weighs against the image's: 1/8 as in the paper, a half, 7/8 (the paper, 2.2; claim 16).

Claim    an eighth, since modelling images is what counts; no other weight is reported. CogView holds that text should
         count as much
Run      dalle ablate experiments/ablations/loss_weight.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics

STAGE = "transformer"
FIELDS = tuple(f"stages.{STAGE}.objective.{name}_weight" for name in ("text", "image"))


def pack() -> Pack:
  """Three weights, by the held-out loss of image tokens."""
  return Pack(
    title="The weights of the two losses",
    group="losses",
    paper=Paper(
      rows=(16,),
      says="the image's loss counts seven times as much as the text's, because images are what is to be modelled",
      where="section 2.2",
    ),
    base=bases.transformer,
    stage=STAGE,
    arms=(
      Arm(name="text 1/8"),
      _weighed("text 1/2", 1 / 2),
      _weighed("text 7/8", 7 / 8),
      bases.control(STAGE),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.02),
    also=(metrics.text_loss(smallest=0.02),),
    claims=(Better(arm="text 1/8", than="text 1/2"), Better(arm="text 1/8", than="text 7/8")),
  )


def _weighed(name: str, text: float) -> Arm:
  weights = {"text_weight": text, "image_weight": 1 - text}
  return Arm(name=name, change=lambda base: bases.changed(base, STAGE, objective=weights), fields=FIELDS)
