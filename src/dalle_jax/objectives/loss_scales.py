"""The scales of gradients in few bits, and how they move: up while all is finite, down when it is not (paper D).

    log2 s  +=  1 / doubling        after an update whose gradients in the block are all finite
    log2 s  -=  1 / 2               after one where they are not, and the last such step is `apart` updates away

S scales: of each residual branch, or one of all.
"""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.errors import UserError


class Scales(NamedTuple):
  """Logarithms to base 2, and the updates since each last went down."""

  log2_S: Float[Array, " S"]
  since_S: Int[Array, " S"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossScales:
  """How gradients are scaled; the numbers are the paper's.

  each: one scale for each residual branch, or one for all; filters: whether what is not finite becomes 0 where a branch
  begins and ends; initial, least, most: powers of two that the number of replicas is multiplied by; doubling: updates
  in which a scale doubles; apart: updates between two steps down.
  """

  each: bool = True
  filters: bool = True
  initial: float = 13.0
  least: float = 7.0
  most: float = 24.0
  doubling: float = 1000.0
  apart: int = 125

  def __post_init__(self) -> None:
    if not self.least <= self.initial <= self.most:
      raise UserError(
        f"got scales that begin at 2^{self.initial:g} between 2^{self.least:g} and 2^{self.most:g}, wanted them between"
      )
    if not self.doubling > 0 or self.apart < 1:
      raise UserError(f"got doubling={self.doubling}, apart={self.apart}, wanted a positive number and at least 1")

  def begin(self, scales: int, replicas: int) -> Scales:
    """So many scales before the first update."""
    log2_S = jnp.full(scales, self.initial + math.log2(replicas), jnp.float32)
    return Scales(log2_S, jnp.full(scales, self.apart, jnp.int32))

  def after(self, before: Scales, fine_S: Bool[Array, " S"], replicas: int) -> Scales:
    """After an update whose gradients were all finite where so said."""
    since_S = before.since_S + 1
    down_S = ~fine_S & (since_S >= self.apart)
    moved_S = before.log2_S + jnp.where(fine_S, 1 / self.doubling, jnp.where(down_S, -0.5, 0.0))
    least, most = (power + math.log2(replicas) for power in (self.least, self.most))
    since_S = jnp.where(down_S, 0, jnp.minimum(since_S, self.apart))
    return Scales(jnp.clip(moved_S, least, most), since_S)
