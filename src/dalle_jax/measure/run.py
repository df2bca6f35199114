"""The run that is measured: its stages with their weights, the split, the devices, and the facts of every protocol."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from dalle_jax import config, evaluate
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import examples
from dalle_jax.evaluation.examples import Examples
from dalle_jax.evaluation.metrics import protocol
from dalle_jax.evaluation.report import Trained
from dalle_jax.measure.asked import Asked
from dalle_jax.places import Place
from dalle_jax.sampling.devices import Devices
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir

Progress = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
  """split: of the pictures; keep_N: which of them are not left out by an exclusion list; None without one."""

  workdir: Workdir
  stages: Mapping[str, Trained]
  prepared: Prepared
  split: str
  devices: Devices
  out: Path
  progress: Progress
  asked: Asked
  exclusion: Mapping[str, Any] | None = None
  keep_N: Bool[np.ndarray, " N"] | None = None

  def __len__(self) -> int:
    return len(self.prepared.source(self.split))

  def stage(self, objective: type, *, what: str) -> tuple[str, Trained]:
    """The stage of that kind, by its name too. Raises UserError where none has weights, or another was named."""
    of_kind = {name: each for name, each in self.stages.items() if isinstance(each.objective, objective)}
    if self.asked.stage in of_kind:
      return self.asked.stage, of_kind[self.asked.stage]
    if not of_kind:
      raise UserError(
        f"{self.workdir} has no weights of a {what} yet, and {what}'s figures are asked for: train it first"
      )
    return next(iter(of_kind.items()))

  def read(self, rows_B: Int[np.ndarray, " B"], size: int) -> Examples:
    """Those pictures of the split, the square in the middle at that size, and their first captions."""
    return examples.read(self.prepared, self.split, rows_B.tolist(), size=size, words=self.words)

  @property
  def words(self) -> examples.Words:
    """The tokenizer; one that reads nothing where the run has none, as a dVAE's alone."""
    return self.workdir.tokenizer() if self.workdir.tokenizer_file.is_file() else _NoWords()

  def tell(self, what: str, total: int) -> Callable[[int], object]:
    """Told how many are done."""
    return lambda done: self.progress(what, done, total)

  def data_facts(self, size: int) -> dict[str, Any]:
    """Which pictures, and how they are cut."""
    return {
      "data": {
        "name": self.prepared.name,
        "sha256": self.prepared.digest(),
        "split": self.split,
        "pictures": len(self),
      },
      "crop": f"square in the middle, to {size} pixels by area (Pillow's BOX), by cubic interpolation where it grows",
    }

  def subject_facts(self, *names: str) -> dict[str, Any]:
    """What is measured, and what it runs on."""
    experiment = self.workdir.experiment()
    return {
      "experiment": {"name": experiment.name, "sha256": config.digest(experiment)},
      "checkpoints": {name: {"step": self.stages[name].step, "sha256": self.stages[name].digest} for name in names},
      "device": f"{jax.device_count()} {jax.devices()[0].device_kind}",
      **protocol.surroundings(),
    }


def begin(
  workdir: Workdir,
  asked: Asked,
  out: Path,
  *,
  data: str | Place | None = None,
  shape: MeshShape | None = None,
  progress: Progress = lambda what, done, total: None,
) -> Run:
  """Opens everything that is measured. Raises UserError where it is not there, or is not what is asked for."""
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write what is measured to {out}: it is a file; take another --out")
  prepared = open_prepared(data or workdir.experiment().data)
  devices = evaluate.over(workdir, shape)
  stages = evaluate.load(workdir, devices)
  if asked.stage is not None and asked.stage not in stages:
    raise UserError(f"got --stage {asked.stage}; {workdir} has weights of {', '.join(stages)}")
  split = examples.held_out_split(prepared, asked.split)
  return Run(
    workdir=workdir,
    stages=stages,
    prepared=prepared,
    split=split,
    devices=devices,
    out=out,
    progress=progress,
    asked=asked,
  )


def sha256(data: bytes) -> str:
  """Of a file's bytes, as protocols tell it."""
  return hashlib.sha256(data).hexdigest()


class _NoWords:
  def ids(self, text: str) -> np.ndarray:
    return np.zeros(0, np.int32)
