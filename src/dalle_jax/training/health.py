"""Which updates are left out: those that are not finite, and those whose gradient is far greater than the last ones'.

    z = (log |g| - mean) / max(deviation, LEAST)      of log |g| of the last `window` updates that were let through

A spike after a bad batch is one update; if what follows stays as great, so many in a row end the run.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.errors import UserError

# Of log |g|: where all norms are nearly alike, a spike of z = 6 is exp(6 x 0.25) = 4.5 times as great as they are.
LEAST = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spikes:
  """An update is a spike when its gradient's norm lies more than `z` deviations above the last `window` ones'.

  Nothing is a spike before so many updates were let through; a `z` of 1e9 lets all pass.
  """

  window: int = 128
  z: float = 6.0

  def __post_init__(self) -> None:
    if self.window < 2 or not self.z > 0:
      raise UserError(
        f"got spikes of window={self.window}, z={self.z}, wanted at least 2 updates and a number above 0: change "
        "the optimizer's spikes"
      )

  def begin(self) -> Float[Array, " window"]:
    """The logs of norms before any was seen."""
    return jnp.zeros(self.window, jnp.float32)

  def is_spike(self, logs: Float[Array, " window"], passed: Int[Array, ""], norm: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether this norm is a spike after `passed` updates that were let through."""
    z = (jnp.log(norm) - logs.mean()) / jnp.maximum(logs.std(), LEAST)
    return (passed >= self.window) & (z > self.z)

  def after(
    self, logs: Float[Array, " window"], passed: Int[Array, ""], norm: Float[Array, ""]
  ) -> Float[Array, " window"]:
    """The logs with this norm, which was let through, in the place of the oldest."""
    return logs.at[passed % self.window].set(jnp.log(jnp.maximum(norm, jnp.finfo(jnp.float32).tiny)))
