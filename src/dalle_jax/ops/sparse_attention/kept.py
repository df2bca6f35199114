"""The name of what attention computes, for remat policies that keep it for the backward pass."""

from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

ATTENTION = "attention"


def kept(*computed: Array | None) -> tuple[Array | None, ...]:
  """The arrays under the name ATTENTION: outputs of attention, and the statistics that its gradient needs."""
  return tuple(x if x is None else checkpoint_name(x, ATTENTION) for x in computed)
