"""Each of our parameters from the one array of a file that it is, with no array left over."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dalle_jax import sharding
from dalle_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a parameter is in a file: the array's name there, its shape there, and what turns it into ours."""

  name: str
  shape: tuple[int, ...]
  turn: Callable[[np.ndarray], np.ndarray] = np.asarray


def filled(shapes: PyTree, source: Callable[[tuple[str, ...], tuple[int, ...]], Source], arrays: Mapping) -> PyTree:
  """A tree of float32 arrays of these shapes.

  source: for a parameter's path and shape, the array it is. Raises UserError naming the first array that is missing, of
  another shape, not of finite numbers, or unknown.
  """
  found: dict[str, Any] = {}
  left = set(arrays)
  for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
    names = tuple(key.key for key in path)
    wanted = source(names, leaf.shape)
    left.discard(wanted.name)
    node = found
    for name in names[:-1]:
      node = node.setdefault(name, {})
    node[names[-1]] = wanted.turn(_checked(wanted, arrays)).reshape(leaf.shape)
  if left:
    more = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
    raise UserError(f"the weights hold {min(left)!r}{more}, which this kind of network does not have")
  return found


def shapes_of(init: Callable[..., PyTree]) -> PyTree:
  """The shapes of what `init(key)` makes."""
  return sharding.unbox(jax.eval_shape(init, jax.random.key(0)))


def _checked(wanted: Source, arrays: Mapping) -> np.ndarray:
  if wanted.name not in arrays:
    raise UserError(f"the weights lack {wanted.name!r}: the file is cut off, or of another kind of network")
  array = arrays[wanted.name]
  if tuple(array.shape) != wanted.shape:
    raise UserError(f"{wanted.name!r} is of shape {tuple(array.shape)}, {wanted.shape} is wanted")
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise UserError(f"{wanted.name!r} holds {array.dtype}, floating-point numbers are wanted")
  array = np.asarray(array, np.float32)
  if not np.isfinite(array).all():
    raise UserError(f"{wanted.name!r} holds numbers that are not finite: the file is damaged, or its training failed")
  return array
