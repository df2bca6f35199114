"""Plans of a stage for topologies that are not here, each compiled in a process of its own."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from dalle_jax import config
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment
from dalle_jax.plan import topologies
from dalle_jax.plan.topologies import Topology

Result = dict[str, Any]
Progress = Callable[[str, int, int], None]  # what is compiled, how many of it are, and of how many
TRIES = 4  # of batches beside the one that two compilations foretell


def plan(
  whole: Experiment, stage: str, names: list[str], progress: Progress, *, largest: bool = False, sample: bool = False
) -> list[Result]:
  """What compiling the stage's train step says, for each topology.

  largest: with the largest batch that fits, found by search; sample: of its sampler instead, which draws a batch of
  samples at a time. Raises UserError for a topology that does not exist, a stage that does not divide over it or can't
  fit, and where a compiler is missing.
  """
  made = [topologies.parse(name) for name in names]
  for each in made:
    each.environment()
  for each in made[1:] if len(made) > 1 and not largest else ():  # the first one's mistakes are soon told anyway
    _ask(whole, stage, each, check=True, sample=sample)
  results = []
  for done, topology in enumerate(made):
    progress("topologies", done, len(made))
    own, larger = whole, {}
    if largest:
      own, next_one = _with_largest_batch(whole, stage, topology, progress, sample=sample)
      larger = {"larger_batch": next_one}
    results.append(_ask(own, stage, topology, program=True, sample=sample) | larger)
  progress("topologies", len(made), len(made))
  return results


def _with_largest_batch(
  whole: Experiment, stage: str, topology: Topology, progress: Progress, *, sample: bool
) -> tuple[Experiment, int | None]:
  """The experiment with the largest batch of the stage that was seen to fit, and the next one, if that was seen not to.

  Raises UserError where not even the least does.
  """
  unit = _ask(whole, stage, topology, unit=True, sample=sample)["unit"]
  probed: dict[int, Result] = {}

  def fits(units: int) -> bool:
    if units not in probed:
      progress(f"{topology.name}: batches tried", len(probed), TRIES + 2)
      probed[units] = _ask(_with_batch(whole, stage, units * unit), stage, topology, sample=sample)
    return probed[units]["fits"]

  if not fits(1):
    raise UserError(f"not even a batch of {unit} fits on {topology.name}: split the weights over more devices")
  best = 1
  if fits(2):
    first, second = (probed[n]["memory"]["total"] for n in (1, 2))
    best = max(2, 1 + int((probed[1]["memory"]["limit"] - first) / max(second - first, 1)))
    for _ in range(TRIES):
      if fits(best):
        if not fits(best + 1):
          break
        best += 1
      else:
        best -= 1
  best = max(n for n, result in probed.items() if result["fits"])
  shown = best + 1 in probed and not probed[best + 1]["fits"]
  return _with_batch(whole, stage, best * unit), (best + 1) * unit if shown else None


def _with_batch(whole: Experiment, stage: str, batch: int) -> Experiment:
  return dataclasses.replace(whole, stages=whole.stages | {stage: dataclasses.replace(whole.stage(stage), batch=batch)})


def _ask(whole: Experiment, stage: str, topology: Topology, **what: bool) -> Result:
  """One compilation; with unit=True the least batch that divides over the devices, with check=True whether it does."""
  asked = {"experiment": config.to_dict(whole), "stage": stage, "topology": topology.name} | what
  done = subprocess.run(
    [sys.executable, "-m", "dalle_jax.plan.worker"],
    input=json.dumps(asked),
    env=topology.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise RuntimeError(f"compiling {stage} for {topology.name} failed:\n{done.stdout}\n{done.stderr}")
  result = json.loads(done.stdout.splitlines()[-1])
  if "error" in result:
    raise UserError(f"{topology.name}: {result['error']}")
  return result
