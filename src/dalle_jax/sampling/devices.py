"""Rows over a mesh of devices where nothing is trained: each device has a part of them, and fillers make them even.

R rows.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Shaped

from dalle_jax import sharding
from dalle_jax.sharding import Rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices:
  """mesh: where weights lie, on one device if None; rules: by which they lie there, and rows are split."""

  mesh: Mesh | None = None
  rules: Rules = Rules()

  @property
  def parts(self) -> int:
    """Into how many parts rows are split."""
    return 1 if self.mesh is None else sharding.batch_parts(self.mesh, self.rules)

  def rules_for(self, rows: int) -> Rules:
    """The rules; where so many rows do not divide, those that keep them whole on each device."""
    return dataclasses.replace(self.rules, batch=()) if rows % self.parts else self.rules

  def put(self, rows: Shaped[np.ndarray, "R ..."]) -> Shaped[Array, "R ..."]:
    """The rows where they belong: split as a batch is where they divide, else whole on each device."""
    if self.mesh is None:
      return jnp.asarray(rows)
    return jax.device_put(rows, sharding.batch_sharding(self.mesh, self.rules_for(len(rows)), rows.ndim))

  def batches(self, total: int, most: int) -> Iterator[Int[np.ndarray, " R"]]:
    """Numbers below `total` in batches of one size, about `most`, that divides.

    A last, smaller batch would be compiled anew, so it is filled up with the last number.
    """
    size = multiple(even_part(total, most), self.parts)
    for first in range(0, total, size):
      yield np.minimum(np.arange(first, first + size), total - 1)

  def filled(self, groups: int, of_each: int) -> tuple[int, int]:
    """Groups and rows of each in a batch that divides: more groups where there are so many, else one and more rows."""
    step = self.parts // math.gcd(of_each, self.parts)
    return (multiple(groups, step), of_each) if step <= groups else (1, multiple(of_each, self.parts))


def scope(mesh: Mesh | None, rules: Rules) -> contextlib.AbstractContextManager[None]:
  """`sharding.in_scope` where there is a mesh."""
  return sharding.in_scope(mesh, rules) if mesh else contextlib.nullcontext()


def even_part(total: int, most: int) -> int:
  """The size of the fewest parts of `total` that are no larger than `most` and as even as can be."""
  return math.ceil(total / math.ceil(total / most))


def multiple(count: int, of: int) -> int:
  """The least multiple that is not below `count`."""
  return -(-count // of) * of
