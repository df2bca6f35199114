"""Compiles one stage for one topology and says what it found: `python -m dalle_jax.plan.worker`, a request on stdin.

A process of its own, because a process chooses its compilers once, and keeps what a compilation took.
"""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dalle_jax import config, sharding, step_shapes
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment
from dalle_jax.models import flops, transformer
from dalle_jax.ops.sparse_attention import tpu_cycles
from dalle_jax.plan import ceiling, compiled, draw, hlo, kernels, topologies
from dalle_jax.plan.topologies import Topology

Result = dict[str, Any]


def plan(
  whole: Experiment, name: str, topology: Topology, *, program: bool = True, sample: bool = False, check: bool = False
) -> Result:
  """What compiling the stage's step for the topology says. program: whether the program is read too.

  sample: of the stage's sampler instead, whose samples are the batch; check: nothing, once that has been looked at.

  Raises UserError, before anything is compiled, where the stage does not divide over the devices.
  """
  devices = topology.devices()
  mesh = sharding.make_mesh(whole.mesh, devices)
  stage, begin = whole.stage(name), time.monotonic()
  given = (draw if sample else step_shapes).arguments(whole, name, mesh)
  shapes = draw.sizes(whole, name, mesh, given) if sample else compiled.of_training(*given)
  compiled.check_room(shapes, topology.chip, len(devices))
  if check:
    return {}
  lowered = (draw if sample else step_shapes).lower(whole, name, mesh, given)
  lowered_s, begin = time.monotonic() - begin, time.monotonic()
  flops_each = flops.of_drawing(stage.objective.model) if sample else stage.objective.flops()
  result = {
    "compiler": _compiler(topology),
    "program": "sampler" if sample else "train step",
    "stage": name,
    "topology": topology.name,
    "devices": len(devices),
    "mesh": dict(mesh.shape),
    "batch": stage.batch,
    "accumulate": 1 if sample else stage.accumulate,
    "flops_per_example": flops_each,
    "flops_per_step": flops_each * stage.batch,
  }
  if sample:
    result |= draw.estimate(whole, name, mesh, given, topology.chip)
  counting = _count(stage.objective.model, topology) if program and not sample else None
  try:
    made = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    found = compiled.too_large(error, shapes, topology.chip)
    if counting:
      counting.stop()
    if found is None:
      raise
    return result | {"memory": dataclasses.asdict(found), "fits": False}
  compile_s = time.monotonic() - begin
  found = compiled.memory(made, shapes, topology.chip)
  result |= {"lower_s": lowered_s, "compile_s": compile_s, "memory": dataclasses.asdict(found), "fits": found.fits}
  if sample and program:
    return result | {"collectives": _by_kind(hlo.read(made.as_text(), len(devices)).collectives)}
  return result | (_program(made, whole, name, topology, mesh, counting) if program else {})


def _compiler(topology: Topology) -> str:
  if topology.gpu:
    return f"jax-cuda12-plugin {jax.__version__}"
  return f"libtpu {tpu_cycles.version()}"


def _count(model: Any, topology: Topology) -> kernels.Counting | None:
  """Begins counting the attention kernels' cycles, where the step has some."""
  if topology.gpu or not isinstance(model, transformer.Config) or kernels.counted(model):
    return None
  name = _implementation(model)
  return kernels.Counting(topology.chip.name, model, name) if name in kernels.KERNELS else None


def _implementation(model: transformer.Config) -> str:
  return "pallas_tpu" if model.attention == "auto" else model.attention


def _program(made, whole: Experiment, name: str, topology: Topology, mesh, counting) -> Result:
  devices, stage = len(mesh.devices.flat), whole.stage(name)
  program = hlo.read(made.as_text(), devices)
  found = {"collectives": _by_kind(program.collectives), "kernel_calls": sum(each.times for each in program.kernels)}
  if program.cycles is None:
    return found | {"ceiling": None, "no_ceiling": "this compiler reports no cycles"}
  of_kernels = 0.0
  if counting and not program.kernels:
    counting.stop()
  if program.kernels:
    if counting is None:
      return found | {"ceiling": None, "no_ceiling": kernels.counted(stage.objective.model)}
    model, parts = stage.objective.model, whole.rules
    split = lambda axes: math.prod(mesh.shape[axis] for axis in axes)  # noqa: E731
    examples = stage.batch / stage.accumulate / split(parts.batch)
    cycles = counting.result()
    heads = model.heads / split(parts.heads)
    found["cycles_per_head"] = cycles
    try:
      of_kernels = ceiling.attention_cycles(program, model, cycles, examples, heads, topology.chip.name)
    except ValueError as error:
      return found | {"ceiling": None, "no_ceiling": str(error)}
  own = stage.objective.flops() * stage.batch / devices
  return found | {"ceiling": dataclasses.asdict(ceiling.estimate(program, own, topology, of_kernels))}


def _by_kind(collectives: Sequence[hlo.Collective]) -> list[Result]:
  """Those of a kind and a size of group together, as a device has them in a step; what sends most comes first."""
  rows: dict[tuple[str, int], Result] = {}
  for each in collectives:
    new = {"kind": each.kind, "group": each.group, "calls": 0, "bytes": 0, "sent": 0.0}
    row = rows.setdefault((each.kind, each.group), new)
    row["calls"] += each.times
    row["bytes"] += each.bytes * each.times
    row["sent"] += each.sent
  return sorted(rows.values(), key=lambda row: -row["sent"])


def main() -> int:
  """Reads what `ask` asks from standard input, prints the result as the last line."""
  asked = json.load(sys.stdin)
  whole, topology = config.from_dict(Experiment, asked["experiment"]), topologies.parse(asked["topology"])
  try:
    if asked.get("unit"):
      mesh = sharding.make_mesh(whole.mesh, topology.devices())
      parts = math.prod(mesh.shape[axis] for axis in whole.rules.batch)
      accumulate = 1 if asked.get("sample") else whole.stage(asked["stage"]).accumulate
      result = {"unit": parts * accumulate}
    else:
      what = {name: asked.get(name, False) for name in ("program", "sample", "check")}
      result = plan(whole, asked["stage"], topology, **what)
  except UserError as error:
    result = {"error": str(error)}
  print(json.dumps(result))
  return 0


if __name__ == "__main__":
  jnp.zeros(0)  # finds the backends now, in the main thread
  sys.exit(main())
