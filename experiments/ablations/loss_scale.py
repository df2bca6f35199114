"""One scale of the gradients for each residual branch, or one of all (the paper, 2.4 and D; claim 18 of its ablations).

Claim    with one scale the gradients of late blocks underflow in float16, and runs above 1B parameters diverged; with
         one for each branch they don't; a statement, and a figure of the scales
Run      dalle ablate experiments/ablations/loss_scale.py

What decides is how much of the late blocks' gradients rounds to 0. Scales of each branch and one of all are the same
until the first overflow, so "tiny" begins near where they overflow; the numbers are in `_deep`.
"""

import _deep
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics, numerics
from dalle_jax.experiment import Experiment
from dalle_jax.models.half import Format

SCALES = f"{_deep.OBJECTIVE}.scales"


def _unscaled(base: Experiment) -> Experiment:
  """Every scale is 1 for ever."""
  one = -float(base.stage("transformer").objective.replicas.bit_length() - 1)
  return _deep.scaled(base, initial=one, least=one, most=one)


def pack() -> Pack:
  """Four ways of the gradients' scales, by the underflow of late blocks."""
  return Pack(
    title="Scales of float16 gradients",
    group="numerics",
    paper=Paper(
      rows=(18,),
      says="with one loss scale the gradients of late blocks underflow and large runs diverge; with one for each "
      "residual block they are stable, and all but one of the scales lie within 4 bits or so",
      where="2.4, appendix D and Figure 12",
    ),
    base=_deep.experiment,
    stage="transformer",
    arms=(
      Arm(name="a scale for each branch"),
      Arm(name="one scale", change=lambda base: _deep.scaled(base, each=False), fields=(f"{SCALES}.each",)),
      Arm(name="no scale", change=_unscaled, fields=tuple(f"{SCALES}.{name}" for name in ("initial", "least", "most"))),
      Arm(
        name="float32",
        change=lambda base: bases.changed(base, "transformer", objective={"form": Format(exponent=8, mantissa=23)}),
        fields=(f"{_deep.OBJECTIVE}.form",),
      ),
    ),
    control="no scale",
    metric=numerics.underflow(smallest=0.01),
    also=(
      numerics.underflow(smallest=0.01, where="early"),
      numerics.scale(smallest=1.0),
      metrics.left_out(smallest=0.05),
      metrics.training_loss(smallest=0.02),
      metrics.image_loss(smallest=0.02),
    ),
    claims=(Better(arm="a scale for each branch", than="one scale"),),
    plots=(numerics.over_time(),),
  )
