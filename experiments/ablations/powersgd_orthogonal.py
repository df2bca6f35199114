"""How PowerSGD makes P orthonormal: reflections, or Gram-Schmidt (the paper, appendix E; claim 25 of its ablations).

Claim    Gram-Schmidt is numerically unstable, Householder's reflections of P + 1e-6 I are not: a statement, no number
Run      dalle ablate experiments/ablations/powersgd_orthogonal.py
"""

import _compressed
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics
from dalle_jax.training.powersgd import GramSchmidt, Householder


def pack() -> Pack:
  """Both, with the damping and without, by the training loss. Here they run in float32, the paper's in 16 bits."""
  return Pack(
    title="PowerSGD's basis: Householder against Gram-Schmidt",
    group="powersgd",
    paper=Paper(
      rows=(25,),
      says="Gram-Schmidt is numerically unstable; reflections, after a little of the identity was added, are not",
      where="appendix E",
    ),
    base=_compressed.transformer,
    stage="transformer",
    arms=(
      Arm(name="Householder"),
      _compressed.arm("Householder, undamped", "orthogonal.damping", orthogonal=Householder(damping=0.0)),
      _compressed.arm("Gram-Schmidt", "orthogonal.kind", orthogonal=GramSchmidt()),
      _compressed.arm("Gram-Schmidt, undamped", "orthogonal", orthogonal=GramSchmidt(damping=0.0)),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.02),
    also=(
      metrics.image_loss(smallest=0.01),
      metrics.training_loss(smallest=0.02, key="compression_error", unit="of what was held"),
    ),
    claims=(
      Better(arm="Householder", than="Gram-Schmidt"),
      Better(arm="Householder", than="Gram-Schmidt, undamped"),
    ),
  )
