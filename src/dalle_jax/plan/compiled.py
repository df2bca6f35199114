"""What a compiled step says of itself: bytes a device by kind, whether they fit, its program."""

import dataclasses
import math
import re
from typing import Any

import jax

from dalle_jax import chips
from dalle_jax.errors import UserError
from dalle_jax.training.step import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Bytes on a device.

  params, optimizer, average, frozen, batch: by their shapes; gradients: by their shapes, inside temporaries;
  arguments: all that the program is given, as the compiler lays it out; temporaries: the compiler's; total: arguments
  and temporaries, results lying in the arguments' place; limit: of the device.
  """

  params: int
  optimizer: int
  average: int
  frozen: int
  batch: int
  gradients: int
  arguments: int
  temporaries: int
  total: int
  limit: int

  @property
  def fits(self) -> bool:
    """Whether the device holds it."""
    return self.total <= self.limit


def memory(compiled: jax.stages.Compiled, state: State, frozen: Any, batch: Any, chip: chips.Chip) -> Memory:
  """Of a compiled step with these arguments."""
  analysis = compiled.memory_analysis()
  arguments = analysis.argument_size_in_bytes
  beside = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return Memory(
    **_of_shapes(state, frozen, batch),
    arguments=arguments,
    temporaries=analysis.temp_size_in_bytes,
    total=arguments + analysis.temp_size_in_bytes + beside + analysis.generated_code_size_in_bytes,
    limit=chip.memory,
  )


def too_large(error: Exception, state: State, frozen: Any, batch: Any, chip: chips.Chip) -> Memory | None:
  """The memory of a step that the compiler found too large, from what it said; None where it said something else."""
  shapes = _of_shapes(state, frozen, batch)
  arguments = sum(size for kind, size in shapes.items() if kind != "gradients")
  if used := re.search(r"Used ([\d.]+)([GMK]?) of [\d.]+[GMK]? hbm", str(error)):
    total = _size(used[1], used[2])
  elif used := re.search(r"required for HLO temporaries \(([\d.]+)([GMK]?)\) exceeds", str(error)):
    total = arguments + _size(used[1], used[2])
  else:
    return None
  return Memory(**shapes, arguments=arguments, temporaries=max(total - arguments, 0), total=total, limit=chip.memory)


def check_room(state: State, frozen: Any, batch: Any, chip: chips.Chip, devices: int) -> None:
  """Raises UserError where what a step is given is more than a device holds already, before anything is compiled."""
  given = sum(on_a_device(tree) for tree in (state, frozen, batch))
  if given > chip.memory:
    raise UserError(
      f"{given / 2**30:,.1f} GiB of parameters, moments and averages on each of {devices} {chip.name}, which have "
      f"{chip.memory / 2**30:,.1f}: take more devices, or split more, as with --mesh.fsdp {devices}"
    )


def on_a_device(tree: Any) -> int:
  """Bytes of arrays that are laid out."""
  return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _of_shapes(state: State, frozen: Any, batch: Any) -> dict[str, int]:
  params = on_a_device(state.params)
  of = {"params": params, "optimizer": on_a_device(state.opt), "average": on_a_device(state.ema)}
  return of | {"frozen": on_a_device(frozen), "batch": on_a_device(batch), "gradients": params}


def _size(number: str, unit: str) -> int:
  return round(float(number) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[unit])
