"""Devices that are not here, by the name of their topology.

v4:4x4x4  v5e:16x16  v5p:8x8x16  v6e:16x16  tpu7x:4x4x4     chips of a slice, compiled for by libtpu
2xv5e:16x16                                                  two such slices
h100:8  h200:64                                              GPUs, eight a host, compiled for by JAX's CUDA plugin
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from dalle_jax import chips
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import gpu_code, tpu_cycles

GPUS_OF_A_HOST = 8
# Devices of a topology, which is described before anything can be refused: more than the largest slices have.
MOST = 16_384


@dataclasses.dataclass(frozen=True)
class Topology:
  """A name taken apart: the chip, and how many of them along each axis of a slice's torus, or in all for GPUs."""

  name: str
  chip: chips.Chip
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def gpu(self) -> bool:
    """Whether these are GPUs."""
    return self.chip.name in chips.targets()

  def devices(self) -> Sequence[jax.Device]:
    """Descriptions to compile for, in a process that `environment` was made for. Raises UserError for no such slice."""
    try:
      if self.gpu:
        hosts = math.ceil(self.shape[0] / GPUS_OF_A_HOST)
        grid = f"1x{hosts}x{self.shape[0] // hosts}"
        made = topologies.get_topology_desc(
          self.chip.name, platform="cuda", target_config=chips.target(self.chip.name), topology=grid
        )
      else:
        several = {"num_slices": self.slices} if self.slices > 1 else {}
        sizes = "x".join(map(str, self.shape))
        made = topologies.get_topology_desc(platform="tpu", topology_name=f"{self.chip.name}:{sizes}", **several)
    except jax.errors.JaxRuntimeError as error:
      hosts = re.search(r'chips_per_host_bounds "(\S+)"', str(error))
      if hosts:
        raise UserError(f"no topology {self.name}: a slice is of whole hosts, each of {hosts[1]} chips") from None
      raise UserError(
        f"no topology {self.name}: {str(error).splitlines()[0].removeprefix('INVALID_ARGUMENT: ')}"
      ) from None
    return made.devices

  def environment(self) -> dict[str, str]:
    """What the process is told that compiles for it. Raises UserError where there is no compiler."""
    if self.gpu:
      return gpu_code.environment(gpu_code.plugin())
    return os.environ | tpu_cycles.settings() | {"JAX_PLATFORMS": "cpu"}

  def axes(self, group: int) -> int:
    """Axes of the torus that a group of so many devices lies along, if it lies as compactly as it can."""
    if self.gpu:
      return 1
    covered, used = 1, 0
    for size in sorted(self.shape, reverse=True):
      if covered >= group:
        break
      covered, used = covered * size, used + 1
    return max(used, 1)


def parse(name: str) -> Topology:
  """The topology of that name. Raises UserError for a chip there is none of, or for numbers that are none."""
  several = re.fullmatch(r"(\d+)x([a-z].*)", name)
  slices, one = (int(several[1]), several[2]) if several else (1, name)
  short, _, rest = one.partition(":")
  chip = chips.named(short)
  known = [each.name for each in chips.CHIPS if each.per_cycle] + list(chips.targets())
  if chip is None or chip.name not in known:
    raise UserError(f"no topology {name!r}: its chip must be one of {', '.join(known)}, as in v5p:4x4x4 or h200:8")
  gpu = chip.name in chips.targets()
  wanted = r"\d+" if gpu else r"\d+x\d+" if chip.axes == 2 else r"\d+x\d+x\d+"
  shape = tuple(int(n) for n in rest.split("x")) if re.fullmatch(wanted, rest) else (0,)
  if min(shape) < 1:
    example = f"{short}:8" if gpu else f"{short}:16x16" if chip.axes == 2 else f"{short}:4x4x4"
    raise UserError(f"no topology {name!r}: after the chip stands how many there are, as in {example}")
  if slices * math.prod(shape) > MOST:
    raise UserError(f"no topology {name!r}: that is {slices * math.prod(shape):,} devices, wanted at most {MOST:,}")
  if gpu and shape[0] > GPUS_OF_A_HOST and shape[0] % GPUS_OF_A_HOST:
    raise UserError(f"no topology {name!r}: GPUs beyond {GPUS_OF_A_HOST} come in hosts of {GPUS_OF_A_HOST}")
  if slices < 1 or (gpu and several):
    raise UserError(f"no topology {name!r}: before a TPU stands how many slices there are, as in 2xv5e:16x16")
  return Topology(name, chip, shape, slices)
