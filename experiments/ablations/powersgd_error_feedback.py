"""How often PowerSGD forgets what its factors left of gradients (the paper, appendix E; claim 26 of its ablations).

Claim    zeroing the error buffers often makes training worse: a statement, no number
Run      dalle ablate experiments/ablations/powersgd_error_feedback.py
"""

import _compressed
import bases

from dalle_jax.ablations import Arm, Better, Pack, Paper, metrics


def pack() -> Pack:
  """Never, every hundredth update, every tenth, and every one, which is without feedback, by the training loss."""
  return Pack(
    title="How often PowerSGD's error buffers are zeroed",
    group="powersgd",
    paper=Paper(
      rows=(26,),
      says="zeroing the error buffers often makes training worse: they are zeroed only where they are not finite",
      where="appendix E",
    ),
    base=_compressed.transformer,
    stage="transformer",
    arms=(
      Arm(name="never"),
      _compressed.arm("every 100 updates", zero_every=100),
      _compressed.arm("every 10 updates", zero_every=10),
      _compressed.arm("every update", zero_every=1),
      bases.control("transformer"),
    ),
    control=bases.CONTROL,
    metric=metrics.training_loss(smallest=0.02),
    also=(
      metrics.image_loss(smallest=0.01),
      metrics.training_loss(smallest=0.02, key="compression_error", unit="of what was held"),
    ),
    claims=(Better(arm="never", than="every 10 updates"), Better(arm="never", than="every update")),
  )
