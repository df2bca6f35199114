"""How often a merge of letters is left out while training: a tenth as in the paper, never, a fifth (3.1; claim 17).

Claim    a tenth, used and not swept: words met in several spellings are to make for better captions' reading
Run      dalle ablate experiments/ablations/bpe_dropout.py
"""

import dataclasses

import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Scale, metrics
from dalle_jax.experiment import Experiment

STAGE = "transformer"
FIELD = "tokenizer.dropout"


def pack() -> Pack:
  """Three rates, by the held-out loss of image tokens; captions are then read without dropout."""
  return Pack(
    title="BPE-dropout",
    group="text",
    paper=Paper(
      rows=(17,), says="a tenth of merges is dropped while training; no other rate is reported", where="section 2.2"
    ),
    base=lambda scale: _dropping(_base(scale), 0.1),
    stage=STAGE,
    arms=(
      Arm(name="0.1"),
      Arm(name="0", change=lambda base: _dropping(base, 0.0), fields=(FIELD,)),
      Arm(name="0.2", change=lambda base: _dropping(base, 0.2), fields=(FIELD,)),
      bases.control(STAGE),
    ),
    control=bases.CONTROL,
    metric=metrics.image_loss(smallest=0.02),
    also=(metrics.image_loss(smallest=0.02, split="test_pairs"), metrics.text_loss(smallest=0.02)),
    claims=(Better(arm="0.1", than="0"), Better(arm="0.1", than="0.2")),
  )


def _base(scale: Scale) -> Experiment:
  """Words that are spelt in several ways are longer: twice the text positions, where the paper's are not there yet."""
  whole = bases.transformer(scale)
  return whole if scale.name == "paper" else bases.longer_text(whole, 64)


def _dropping(base: Experiment, rate: float) -> Experiment:
  return dataclasses.replace(base, tokenizer=dataclasses.replace(base.tokenizer, dropout=rate))
