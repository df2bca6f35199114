"""Checkpoints as files: which there are, whether they are whole, in what two differ, and their weights for others.

A path names a workdir, one of its stages, or one step: runs/demo, runs/demo/clip, runs/demo/clip/checkpoints/1200.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from dalle_jax import places
from dalle_jax.data.scratch import publish, scratch_for
from dalle_jax.errors import StorageError, UserError
from dalle_jax.experiment import differences
from dalle_jax.places import Place
from dalle_jax.training.checkpoint import Checkpoints, digest

FOLDER = "checkpoints"
WEIGHTS = ("params", "ema")


@dataclasses.dataclass(frozen=True)
class Kept:
  """The checkpoints of a stage, of which a path named one step, or all (None)."""

  stage: str
  checkpoints: Checkpoints
  step: int | None = None

  def steps(self) -> list[int]:
    """The step named, or all, ascending."""
    return self.checkpoints.steps() if self.step is None else [self.step]

  def chosen(self) -> int:
    """The step named, or the newest good one. Raises StorageError where it is not good, or none is."""
    step = self.checkpoints.newest() if self.step is None else self.step
    if step is None:
      raise StorageError(f"{self.checkpoints.directory} holds no checkpoint yet")
    problem = self.checkpoints.problem(step, contents=True)
    if problem:
      raise StorageError(f"checkpoint {step} of {self.checkpoints.directory} is not good ({problem})")
    return step


def at(path: str | Place) -> list[Kept]:
  """What a path names, one entry a stage. Raises UserError where it names no checkpoints."""
  path = places.at(path)
  if path.name.isdecimal() and path.parent.name == FOLDER:
    if not path.is_dir():
      there = ", ".join(map(str, Checkpoints(path.parent).steps())) or "none"
      raise UserError(f"no checkpoint {path}; the steps there are: {there}")
    return [Kept(path.parents[1].name, Checkpoints(path.parent), int(path.name))]
  for stage in (path, path.parent):
    if (stage / FOLDER).is_dir() and path in (stage, stage / FOLDER):
      return [Kept(stage.resolve().name, Checkpoints(stage / FOLDER))]
  found = [Kept(folder.parent.name, Checkpoints(folder)) for folder in sorted(path.glob(f"*/{FOLDER}"))]
  if not found:
    raise UserError(f"no checkpoints at {path}; wanted a workdir, WORKDIR/STAGE or WORKDIR/STAGE/{FOLDER}/STEP")
  return found


def one(path: str | Place, stage: str | None = None) -> Kept:
  """The one stage that a path names. Raises UserError where it names several and `stage` does not say which."""
  found = [kept for kept in at(path) if stage in (None, kept.stage)]
  if len(found) == 1:
    return found[0]
  names = ", ".join(kept.stage for kept in at(path))
  raise UserError(f"{path} has the stages {names}: name one of them, as in {path}/{at(path)[0].stage}")


def listed(path: str | Place) -> Iterator[str]:
  """A line a checkpoint: stage, step, when it was written, its bytes and loss, whether its files are there."""
  found = at(path)
  yield f"{'stage':<12} {'step':>9} {'written':>16} {'MiB':>10} {'loss':>10}  state"
  for kept in found:
    for step in kept.steps():
      folder = kept.checkpoints.directory / str(step)
      size = sum(places.files(folder).values()) / 2**20
      written = time.strftime("%Y-%m-%d %H:%M", time.localtime(places.written(folder)))
      problem = kept.checkpoints.problem(step, contents=False)
      loss = None if problem else kept.checkpoints.loss(step)
      told = "" if loss is None else f"{loss:.4f}"
      yield f"{kept.stage:<12} {step:>9} {written:>16} {size:>10,.1f} {told:>10}  {problem or 'whole'}"


def verified(path: str | Place, tell: Callable[[str], None]) -> int:
  """Reads every byte and compares it with the manifests, telling a line a checkpoint. How many are not good.

  Raises StorageError where there is not one.
  """
  bad = 0
  if not any(kept.steps() for kept in at(path)):
    raise StorageError(f"{path} holds no checkpoint yet")
  for kept in at(path):
    for step in kept.steps():
      problem = kept.checkpoints.problem(step, contents=True)
      bad += problem is not None
      tell(f"{kept.stage} {step}: {problem or 'good'}")
  return bad


def different(a: Kept, b: Kept) -> list[str]:
  """In what two checkpoints differ; empty where nothing does.

  First the experiment's fields, then arrays that one of them lacks or that are of another shape or dtype, then those
  whose numbers differ, with the greatest difference relative to the greatest number, falling.
  """
  steps = a.chosen(), b.chosen()
  told = [json.loads(kept.checkpoints.files(step)["experiment.json"]) for kept, step in zip((a, b), steps)]
  lines = [f"experiment: {line}" for line in differences(*told)]
  ours, theirs = a.checkpoints.arrays(steps[0]), b.checkpoints.arrays(steps[1])
  apart = []
  for item in [*ours, *(item for item in theirs if item not in ours)]:
    left, right = ours.get(item, {}), theirs.get(item, {})
    for path in [*left, *(path for path in right if path not in left)]:
      if left.get(path) != right.get(path):
        lines.append(f"{item}/{path}: {left.get(path, 'not there')} -> {right.get(path, 'not there')}")
    same = [path for path in left if left[path] == right.get(path)]
    if same:
      x, y = (kept.checkpoints.read(step, item) for kept, step in zip((a, b), steps))
      apart += [(_distance(x[path], y[path]), f"{item}/{path}") for path in same]
  numbers = sorted(((far, path) for far, path in apart if far), reverse=True)
  return lines + [f"{path}: numbers differ by {far:.3g} of the greatest" for far, path in numbers]


def export(kept: Kept, out: str | Path, *, ema: bool = True) -> Path:
  """Writes a checkpoint's weights (their moving average where there is one and `ema` is set) and what explains them.

  OUT/STAGE.safetensors, with arrays named as in blocks.attention.kernel, and experiment.json, tokenizer.model as in the
  checkpoint; a stage may be taken `from` OUT. OUT appears whole or not at all.

  Raises UserError where something is there, StorageError on a full disk.
  """
  step, out = kept.chosen(), Path(out)
  item = "ema" if ema and "ema" in kept.checkpoints.arrays(step) else "params"
  arrays = kept.checkpoints.read(step, item)
  about = {"stage": kept.stage, "step": str(step), "weights": item, "sha256": digest(arrays)}
  with scratch_for(out) as scratch:
    whole = scratch / "whole"
    whole.mkdir()
    named = {path.replace("/", "."): np.asarray(array, order="C") for path, array in arrays.items()}
    save_file(named, whole / f"{kept.stage}.safetensors", metadata=about)
    (whole / f"{kept.stage}.safetensors").chmod(0o644)  # safetensors writes for its owner alone
    for name, data in kept.checkpoints.files(step).items():
      (whole / name).write_bytes(data)
    publish(whole, out)
  return out / f"{kept.stage}.safetensors"


def _distance(x: np.ndarray, y: np.ndarray) -> float:
  """The greatest difference relative to the greatest number; 0 for equal numbers, infinity where one is not finite."""
  if x.tobytes() == y.tobytes() or np.array_equal(x, y):
    return 0.0
  x, y = x.astype(np.float64), y.astype(np.float64)
  far = float(np.max(np.abs(x - y)) / max(np.max(np.abs(x)), np.max(np.abs(y)), 1e-300))
  return far if np.isfinite(far) else float("inf")
