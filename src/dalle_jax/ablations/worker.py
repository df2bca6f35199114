"""The process that trains and measures: `python -m dalle_jax.ablations.worker`, a line of JSON for each thing to do.

    {"do": "devices", ...}   whether the experiment's mesh can be made of the devices that are here
    {"do": "shared", ...}    trains what comes before the pack's stage
    {"do": "train", ...}     trains a run: the first of `arms`, whose experiments are equal, at a seed
    {"do": "measure", ...}   measures it for the first of `arms`

It answers each with a line of JSON on its standard output: {} where it went well, or why not. Its end, whatever its
cause, is for the one who asked to report; with that one it ends too.
"""

import ctypes
import dataclasses
import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax

from dalle_jax import sharding
from dalle_jax.ablations import arms, figures, measured, packs, runs
from dalle_jax.ablations.pack import Pack, Scale
from dalle_jax.ablations.runs import Bench
from dalle_jax.ablations.scenes import Data
from dalle_jax.errors import TrainingPreempted, TrainingUnhealthy
from dalle_jax.evaluation.metrics import protocol
from dalle_jax.experiment import Experiment
from dalle_jax.training import compile_cache
from dalle_jax.workdir import Workdir

QUICK = 0.2  # seconds: what takes longer to compile is kept, since a pack compiles much the same many times


def main() -> int:
  """Answers until nothing more is asked. Returns the exit code."""
  _die_with_parent()
  answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
  jax.config.update("jax_persistent_cache_min_compile_time_secs", QUICK)
  for line in sys.stdin:
    asked = json.loads(line)
    try:
      with compile_cache.under(Path(asked["out"])):
        answer = ASKED[asked["do"]](asked)
    except TrainingPreempted as error:
      print(f"ablate: {error}", file=sys.stderr)
      return error.exit_code
    except KeyboardInterrupt:
      return 130
    except Exception as error:
      answer = _why(error)
    print(json.dumps(answer), file=answers, flush=True)
  return 0


def _devices(asked: dict[str, Any]) -> dict[str, Any]:
  for experiment in _resolved(asked)[1].values():
    sharding.make_mesh(experiment.mesh)
  return {}


def _shared(asked: dict[str, Any]) -> dict[str, Any]:
  pack, experiments = _resolved(asked)
  runs.prepare(_bench(asked), experiments[asked["arms"][0]], pack.stage)
  return {}


def _train(asked: dict[str, Any]) -> dict[str, Any]:
  pack, experiments = _resolved(asked)
  runs.train(_bench(asked), experiments[asked["arms"][0]], pack.stage, asked["seed"])
  return {}


def _measure(asked: dict[str, Any]) -> dict[str, Any]:
  pack, experiments = _resolved(asked)
  bench, seed, arm = _bench(asked), asked["seed"], pack.arm(asked["arms"][0])
  experiment = experiments[arm.name]
  workdir = Workdir.open(bench.workdir(experiment, pack.stage, seed))
  found = measured.measure(pack, workdir, arm.setting, seed).anywhere(bench.out)
  for name, said in found.lacking.items():
    print(f"{asked['name']}: {arm.name}, seed {seed}: left out: {name}: {said}", file=sys.stderr)
  trained = sum(seconds for what, seconds in workdir.times() if what == pack.stage)
  found = dataclasses.replace(found, made={"trained_s": round(trained, 1)} | _here())
  key = figures.key(bench, pack, experiment, arm, seed)
  figures.write(figures.file(bench.out, asked["name"], arm.name, seed), key, found)
  return {}


ASKED = {"devices": _devices, "shared": _shared, "train": _train, "measure": _measure}


@functools.cache
def _loaded(file: str) -> Pack:
  return packs.load(Path(file)).pack


def _resolved(asked: dict[str, Any]) -> tuple[Pack, dict[str, Experiment]]:
  pack = _loaded(asked["file"])
  return pack, arms.resolve(pack, Scale(name=asked["scale"], data=asked["data"]["path"]))


def _bench(asked: dict[str, Any]) -> Bench:
  return Bench(out=Path(asked["out"]), data=Data(Path(asked["data"]["path"]), asked["data"]["digest"]))


def _why(error: Exception) -> dict[str, Any]:
  return {"failed": measured.why(error), "diverged": isinstance(error, TrainingUnhealthy), "made": _here()}


def _here() -> dict[str, Any]:
  devices = jax.devices()
  kind = f"{len(devices)} x {devices[0].device_kind}" + (f", {os.cpu_count()} cores" * (devices[0].platform == "cpu"))
  return {"commit": protocol.commit(), "device": kind}


def _die_with_parent() -> None:
  """Asks Linux to kill this process when the one who asks ends, however that ends: it would hold the workdir's lock."""
  if sys.platform == "linux":
    ctypes.CDLL("libc.so.6", use_errno=True).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
  sys.exit(main())
