"""Saying a caption once, twice, three times, or in two wordings, when drawing (the blog; claim 32).

Claim    repeating a caption, at times in other words, makes pictures agree with it more often; a statement, no number
Run      dalle ablate experiments/ablations/caption_repetition.py
"""

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Scale, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.experiment import Experiment


def pack() -> Pack:
  """One run for all, by how much of what captions say is drawn right."""
  return Pack(
    title="Repeated captions",
    group="text",
    paper=Paper(
      rows=(32,),
      says="repeating the caption, at times in other words, makes the pictures agree with it more consistently",
      where="the blog post",
    ),
    base=_base,
    stage="transformer",
    arms=(
      Arm(name="once", setting=Drawing()),
      Arm(name="twice", setting=Drawing(repeat=2)),
      Arm(name="three times", setting=Drawing(repeat=3)),
      Arm(name="in two wordings", setting=Drawing(reworded=True)),
      Arm(name="another's caption", setting=Drawing(shuffled=True)),
    ),
    control="another's caption",
    metric=sampled.aspects(smallest=0.02),
    also=(sampled.composition(smallest=0.03),),
    claims=(
      Better(arm="twice", than="once"),
      Better(arm="three times", than="once"),
      Better(arm="in two wordings", than="once"),
    ),
  )


def _base(scale: Scale) -> Experiment:
  """Room for a caption three times; the paper has it."""
  whole = bases.transformer(scale)
  return whole if scale.name == "paper" else bases.longer_text(whole, 96)
