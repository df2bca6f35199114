"""Adafactor: of a matrix's second moments only their sums over rows and over columns are kept, and no first moment.

u  = gradient / √v             v ≈ rows ⊗ columns / their sum, averaged with the weight 1 - n^-power at the n-th update
u  = u / max(1, rms(u) / most)
p  = p - lr · (max(rms(p), 0.001) · u + decay · p)      the rms of p where `relative`

The paper knows nothing of it (Shazeer and Stern 2018). The parts are optax's. A looped-over layer's matrices of all
periods are one array, and have one rms.
"""

import dataclasses
from typing import Any

import optax

from dalle_jax.errors import UserError
from dalle_jax.sharding import unbox
from dalle_jax.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor(Optimizer):
  """An optimizer that keeps next to nothing.

  power: of the averages; most: greatest rms of a parameter's direction; relative: whether that is multiplied by the
  parameter's own rms; momentum: of the direction, None for none; factor_from: sizes from which on a matrix's second
  moments are kept as sums: smaller ones are kept whole.
  """

  power: float = 0.8
  most: float = 1.0
  relative: bool = True
  momentum: float | None = None
  factor_from: int = 128

  def __post_init__(self) -> None:
    super().__post_init__()
    if not 0 < self.power < 1:
      raise UserError(f"got power={self.power}, wanted 0 < power < 1: change the optimizer")
    if not 0 < self.most < float("inf"):
      raise UserError(f"got most={self.most}, wanted a positive number: change the optimizer")
    if self.momentum is not None and not 0 <= self.momentum < 1:
      raise UserError(f"got momentum={self.momentum}, wanted 0 <= momentum < 1: change the optimizer")
    if self.factor_from < 1:
      raise UserError(f"got factor_from={self.factor_from}, wanted at least 1: change the optimizer")

  def direction(self) -> optax.GradientTransformation:
    """What `build` scales by the rate, before decay."""
    factored = optax.scale_by_factored_rms(decay_rate=self.power, min_dim_size_to_factor=self.factor_from)
    parts = [_whole_everywhere(factored), optax.clip_by_block_rms(self.most)]
    parts += [optax.scale_by_param_block_rms()] if self.relative else []
    parts += [optax.ema(self.momentum, debias=False)] if self.momentum is not None else []
    return optax.chain(*parts)


def _whole_everywhere(part: optax.GradientTransformation) -> optax.GradientTransformation:
  """Its state is of other shapes than the parameters, and small: every device has it whole."""

  def init(params: Any) -> Any:
    return part.init(unbox(params))

  return optax.GradientTransformation(init, part.update)
