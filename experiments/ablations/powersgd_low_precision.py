"""The numbers that PowerSGD's factors and buffers are of (the paper, appendix E; claim 27 of its ablations).

Claim    6 bits of exponent and 9 of mantissa, ending just under 16, keep buffers and factors from underflowing, where
         float16 would need scales of its own: a statement, no number
Run      dalle ablate experiments/ablations/powersgd_low_precision.py
"""

import _compressed
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, Same, Scale, metrics
from dalle_jax.experiment import Experiment
from dalle_jax.training.powersgd import Floats

FLOAT16 = Floats(exponent=5, mantissa=10, top=16)


def pack() -> Pack:
  """1-6-9, float32 and float16 without scales, by the training loss. Emulated: what is sent stays float32's size."""
  return Pack(
    title="PowerSGD's factors and buffers in 1-6-9, float16 and float32",
    group="powersgd",
    paper=Paper(
      rows=(27,),
      says="a format of 6 bits of exponent and 9 of mantissa keeps buffers, factors and their sums from underflowing",
      where="appendix E",
    ),
    base=_base,
    stage="transformer",
    arms=(
      Arm(name="1-6-9"),
      _compressed.arm("float32", floats=None),
      _compressed.arm("float16", "floats", floats=FLOAT16),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.02),
    also=(
      metrics.image_loss(smallest=0.01),
      metrics.training_loss(smallest=0.02, key="compression_error", unit="of what was held"),
    ),
    claims=(Same(arm="1-6-9", other="float32"), Better(arm="1-6-9", than="float16")),
  )


def _base(scale: Scale) -> Experiment:
  return _compressed.arm("1-6-9", floats=Floats()).change(_compressed.transformer(scale))
