"""Guidance, and how often training takes captions away for it (after the paper: Ho and Salimans 2021; dalle-mini).

Claim    none of the paper, which has no guidance. Peers that took captions away in training draw better with guidance,
         and lose little without
Run      dalle ablate experiments/ablations/guidance.py
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, metrics, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.experiment import Experiment
from dalle_jax.sampling.choose import SamplingConfig

STAGE = "transformer"
DROP = f"stages.{STAGE}.examples.drop_captions"


def pack() -> Pack:
  """Two runs: all captions kept, a tenth taken away; with the second, guidance 1, 3 and 0, by aspects drawn right."""
  return Pack(
    title="Guidance and captions taken away",
    group="sampling",
    paper=Paper(rows=(31,), says="pictures are drawn without guidance, and every caption is kept", where="section 2.6"),
    base=bases.clip,
    stage=STAGE,
    arms=(
      Arm(name="all kept", setting=Drawing()),
      _guided("all kept, guidance 3", 3.0),
      Arm(name="a tenth taken away", change=_dropping, fields=(DROP,), setting=Drawing()),
      _guided("a tenth taken away, guidance 3", 3.0, _dropping, (DROP,)),
      _guided("a tenth taken away, guidance 0", 0.0, _dropping, (DROP,)),
    ),
    control="a tenth taken away, guidance 0",
    metric=sampled.aspects(smallest=0.02),
    also=(
      sampled.composition(smallest=0.03),
      sampled.clip_score(smallest=1.0),
      sampled.fd_clip(smallest=0.02),
      metrics.image_loss(smallest=0.02),
    ),
    claims=(
      Better(arm="a tenth taken away, guidance 3", than="a tenth taken away"),
      Better(arm="a tenth taken away, guidance 3", than="all kept, guidance 3"),
      Same(arm="a tenth taken away", other="all kept"),
    ),
  )


def _guided(name: str, guidance: float, change=lambda base: base, fields: tuple[str, ...] = ()) -> Arm:
  how = Drawing(sampling=SamplingConfig(guidance=guidance))
  return Arm(name=name, change=change, fields=fields, setting=how)


def _dropping(base: Experiment) -> Experiment:
  stage = base.stage(STAGE)
  return bases.changed(base, STAGE, examples=dataclasses.replace(stage.examples, drop_captions=0.1))
