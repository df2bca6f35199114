"""An estimate of the greatest utilisation that a compiled step can reach on a TPU: model FLOPs over compiler's cycles.

cycles   the compiler's estimates of its own operations, each as often as it runs, and for the attention kernels the
         cycles of their schedules. No waits for memory, no clock that slows down: a ceiling, never a time
hidden   as if every collective ran beside the computation
shown    as if none did: bytes sent, at the published rate of the links along the axes that the group lies on; of
         several slices not known, because no rate is published for the network between them
"""

import dataclasses
import re

from dalle_jax.models import transformer
from dalle_jax.plan.hlo import Kernel, Program
from dalle_jax.plan.kernels import Cycles
from dalle_jax.plan.topologies import Topology

CORES = {"v5p": 2}  # of a device: both share the steps of a kernel's grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ceiling:
  """Cycles of a step on a device, by what spends them, and the utilisations that follow."""

  compiler: int
  kernels: float
  collectives: float | None
  mfu_hidden: float
  mfu_shown: float | None


def estimate(program: Program, flops: float, topology: Topology, of_kernels: float) -> Ceiling:
  """flops: the model's, of a step on a device; of_kernels: cycles of all kernels of a step on a device."""
  chip = topology.chip
  clock = chip.peak / chip.per_cycle
  seconds = sum(each.sent / (chip.link * topology.axes(each.group)) for each in program.collectives)
  busy, sent = program.cycles + of_kernels, seconds * clock if topology.slices == 1 else None
  return Ceiling(
    compiler=program.cycles,
    kernels=of_kernels,
    collectives=sent,
    mfu_hidden=flops / (busy * chip.per_cycle),
    mfu_shown=None if sent is None else flops / ((busy + sent) * chip.per_cycle),
  )


def attention_cycles(
  program: Program, model: transformer.Config, cycles: Cycles, examples: float, heads: float, chip: str
) -> float:
  """Of the attention kernels in a step, on a device that works on so many examples at a time, and heads of each.

  Raises ValueError for a call in no block.
  """
  total = 0.0
  for kernel in program.kernels:
    backward = "backward" in kernel.name or "dkv" in kernel.name or "dq" in kernel.name
    name = "backward" if backward else "training forward"
    total += kernel.times * cycles[kind_of(kernel, model)][name]
  return total * examples * heads / CORES.get(chip, 1)


def kind_of(kernel: Kernel, model: transformer.Config) -> str:
  """The kind of attention of the block that the kernel is called in. Raises ValueError for a call in no block."""
  block = re.findall(r"block_(\d+)", kernel.where)
  if not block:
    raise ValueError(f"{kernel.name} is called in no block of the transformer: {kernel.where!r}")
  # Blocks of the scanned periods count anew in each, those after them go on from the last.
  return model.mix[int(block[0])] if "periods" in kernel.where else model.kinds()[int(block[0])]
