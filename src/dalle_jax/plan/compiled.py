"""What a compiled program says of itself: bytes a device by kind, and whether they fit."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax

from dalle_jax import chips
from dalle_jax.errors import UserError
from dalle_jax.training.step import State

INSIDE = ("gradients", "caches")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Bytes on a device.

  params, optimizer (with what PowerSGD keeps), average, frozen, batch: by their shapes; gradients, caches (keys and
  values that drawing keeps): by their shapes, inside temporaries; arguments: all that the program is given, as the
  compiler lays it out; temporaries: the compiler's; total: arguments and temporaries, results lying in the arguments'
  place; limit: of the device.
  """

  params: int
  batch: int
  arguments: int
  temporaries: int
  total: int
  limit: int
  optimizer: int = 0
  average: int = 0
  frozen: int = 0
  gradients: int = 0
  caches: int = 0

  @property
  def fits(self) -> bool:
    """Whether the device holds it."""
    return self.total <= self.limit


def of_training(state: State, frozen: Any, batch: Any) -> dict[str, int]:
  """Bytes on a device, by kind, of what a train step is given and of its gradients."""
  params = on_a_device(state.params)
  of = {"params": params, "optimizer": on_a_device((state.opt, state.reduce)), "average": on_a_device(state.ema)}
  return of | {"frozen": on_a_device(frozen), "batch": on_a_device(batch), "gradients": params}


def memory(compiled: jax.stages.Compiled, shapes: Mapping[str, int], chip: chips.Chip) -> Memory:
  """Of a compiled program with arguments and temporaries of these sizes."""
  analysis = compiled.memory_analysis()
  arguments = analysis.argument_size_in_bytes
  beside = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return Memory(
    **shapes,
    arguments=arguments,
    temporaries=analysis.temp_size_in_bytes,
    total=arguments + analysis.temp_size_in_bytes + beside + analysis.generated_code_size_in_bytes,
    limit=chip.memory,
  )


def too_large(error: Exception, shapes: Mapping[str, int], chip: chips.Chip) -> Memory | None:
  """The memory of a program that the compiler found too large, from what it said; None where it said something else."""
  arguments = given(shapes)
  if used := re.search(r"Used ([\d.]+)([GMK]?) of [\d.]+[GMK]? hbm", str(error)):
    total = _size(used[1], used[2])
  elif used := re.search(r"required for HLO temporaries \(([\d.]+)([GMK]?)\) exceeds", str(error)):
    total = arguments + _size(used[1], used[2])
  else:
    return None
  return Memory(**shapes, arguments=arguments, temporaries=max(total - arguments, 0), total=total, limit=chip.memory)


def check_room(shapes: Mapping[str, int], chip: chips.Chip, devices: int) -> None:
  """Raises UserError where what a program is given is more than a device holds already, before anything is compiled."""
  if given(shapes) > chip.memory:
    what = "parameters, moments and averages" if shapes.get("optimizer") else "parameters"
    raise UserError(
      f"{given(shapes) / 2**30:,.1f} GiB of {what} on each of {devices} {chip.name}, which have "
      f"{chip.memory / 2**30:,.1f}: take more devices, or split more, as with --mesh.fsdp {devices}"
    )


def given(shapes: Mapping[str, int]) -> int:
  """Bytes of what a program is given; the rest comes to be inside it."""
  return sum(size for kind, size in shapes.items() if kind not in INSIDE)


def on_a_device(tree: Any) -> int:
  """Bytes of arrays that are laid out."""
  return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _size(number: str, unit: str) -> int:
  return round(float(number) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[unit])
