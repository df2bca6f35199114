"""Attention on a mesh: examples and heads are split, positions are not, and no device needs another's."""

from collections.abc import Callable

from jaxtyping import Array

from dalle_jax import sharding

AXES = ("batch", None, "heads", None)  # of q, k, v and o


def by_heads(function: Callable[..., Array], *, lengths: bool = False) -> Callable[..., Array]:
  """The function of q, k, v, and of lengths [B] if there are any, on each device's examples and heads."""
  return sharding.by_shard(function, (AXES, AXES, AXES, ("batch",))[: 3 + lengths], AXES)
