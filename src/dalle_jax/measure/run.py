"""The run that is measured: its stages with their weights, the split, the devices, and the facts of every protocol."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from dalle_jax import config, evaluate, published
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import examples
from dalle_jax.evaluation.examples import Examples
from dalle_jax.evaluation.metrics import parts, protocol, result
from dalle_jax.evaluation.metrics.parts import Compute, Parts
from dalle_jax.evaluation.published_clip import Clip
from dalle_jax.evaluation.report import Trained
from dalle_jax.measure.asked import Asked
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.places import Place
from dalle_jax.sampling.devices import Devices
from dalle_jax.sharding import MeshShape
from dalle_jax.showing import NoWords
from dalle_jax.workdir import Workdir

PARTS = "parts"
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

  def first_stage(self) -> tuple[str, Trained]:
    """What codes pictures, and its name. Raises UserError where it has no weights."""
    return self._one("dVAE", lambda each: isinstance(each.objective, FirstStage))

  def transformer(self, *, draws: bool) -> tuple[str, Trained]:
    """The transformer, and its name; draws: one that is text-first. Raises UserError where none has weights."""

    def fits(each: Trained) -> bool:
      return isinstance(each.objective, TransformerNll) and not (draws and each.objective.model.order == "image_first")

    return self._one("text-first transformer" if draws else "transformer", fits)

  def clip(self) -> tuple[str, Trained] | None:
    """The run's own CLIP, and its name, where it has one."""
    found = [each for each in self.stages.values() if isinstance(each.objective, ClipContrastive)]
    return self._one("CLIP", lambda each: isinstance(each.objective, ClipContrastive)) if found else None

  def _one(self, what: str, fits: Callable[[Trained], bool]) -> tuple[str, Trained]:
    """The stage that was named, where it fits; else the first that does."""
    found = {name: each for name, each in self.stages.items() if fits(each)}
    if not found:
      raise UserError(f"{self.workdir} has no weights of a {what} yet, whose figures are asked for: train it first")
    named = self.asked.stage
    return (named, found[named]) if named in found else next(iter(found.items()))

  def read(self, rows_B: Int[np.ndarray, " B"], size: int) -> Examples:
    """Those pictures of the split, the square in the middle at that size, and their first captions."""
    return examples.read(self.prepared, self.split, rows_B.tolist(), size=size, words=self.words)

  @functools.cached_property
  def words(self) -> examples.Words:
    """The tokenizer; one that reads nothing where no stage reads text, as in a dVAE's own run."""
    first = all(isinstance(each.objective, FirstStage) for each in self.stages.values())
    return NoWords() if first and not self.workdir.tokenizer_file.is_file() else self.workdir.tokenizer()

  @functools.cached_property
  def published_clip(self) -> Clip:
    """The published CLIP that is named. Raises UserError where its directory holds none."""
    return published.clip(self.asked.clip, self.devices, self.asked.batch)

  def tokenizer_digest(self) -> str:
    """SHA-256 of the tokenizer. Raises UserError where there is none."""
    self.workdir.tokenizer()
    return hashlib.sha256(self.workdir.tokenizer_file.read_bytes()).hexdigest()

  def measured(
    self, told: str, about: Mapping[str, Any], total: int, compute: Compute, size: int | None = None
  ) -> Parts:
    """`parts.measured` in this run's folder: with the program's own facts in the key, told, and kept in a bucket."""

    def progress(done: int) -> None:
      if done:
        self.workdir.keep()
      self.progress(told, done, total)

    about = {**about, **protocol.surroundings(), "device": jax.devices()[0].device_kind}
    size = max(1, size or max(self.asked.batch, 256 // self.asked.batch * self.asked.batch))
    return parts.measured(self.out / PARTS, about, total, compute, size=size, progress=progress)

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
    return evaluate.made_by(self.workdir, {name: self.stages[name] for name in names})


def model_digest(stage: Trained) -> str:
  """Of what the weights do not tell of a model: its sizes, patterns, dtype."""
  return protocol.identity({"model": config.to_dict(stage.objective.model)})


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
  _check_out(out)
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


def _check_out(out: Path) -> None:
  """Raises UserError for a place that is none of ours to write to."""
  if str(out).startswith("gs:"):
    raise UserError(f"got --out {out}, wanted a directory of this machine; without --out a bucket's workdir keeps it")
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write what is measured to {out}: it is a file; take another --out")
  ours = any((out / name).exists() for name in (result.NAME, PARTS))
  if out.is_dir() and not ours and any(out.iterdir()):
    raise UserError(f"{out} holds something that is no earlier result: take another --out")
