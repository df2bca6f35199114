"""Each of our parameters from the one array of a file that it is, with no array left over."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from dalle_jax import sharding
from dalle_jax.convert.named import Names


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a parameter is in a file: the array's name there, its shape there, and what turns it into ours."""

  name: str
  shape: tuple[int, ...]
  turn: Callable[[np.ndarray], np.ndarray] = np.asarray


def filled(shapes: PyTree, source: Callable[[tuple[str, ...], tuple[int, ...]], Source], arrays: Names) -> PyTree:
  """A tree of float32 arrays of these shapes.

  source: for a parameter's path and shape, the array it is. Raises UserError naming the first array that is missing, of
  another shape, not finite, or unknown.
  """
  found: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
    *folders, name = (key.key for key in path)
    node = found
    for folder in folders:
      node = node.setdefault(folder, {})
    wanted = source((*folders, name), leaf.shape)
    node[name] = wanted.turn(arrays.take(wanted.name, wanted.shape))
  arrays.all_taken()
  return found


def shapes_of(init: Callable[..., PyTree]) -> PyTree:
  """The shapes of what `init(key)` makes."""
  return sharding.unbox(jax.eval_shape(init, jax.random.key(0)))
