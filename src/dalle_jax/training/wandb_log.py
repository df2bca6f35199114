"""The same numbers and pictures to Weights & Biases, where it is installed and asked for."""

import importlib
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dalle_jax.errors import UserError


def require() -> Any:
  """The wandb package. Raises UserError where it is not installed."""
  try:
    found = importlib.import_module("wandb")
  except ImportError:
    found = None
  if not hasattr(found, "init"):  # a folder of that name counts as a package
    raise UserError(
      "--wandb wants the package wandb, which is not installed: pip install 'dalle-jax[wandb]', or leave --wandb out"
    )
  return found


class WandbLog:
  """A run of a project, one for each stage of a workdir; the stage that goes on, goes on there.

  Where it goes is wandb's own affair (WANDB_MODE=offline keeps it in the workdir). Raises UserError where it refuses.
  """

  def __init__(self, project: str, workdir: Path):
    wandb = require()
    where = workdir.resolve()
    self._image = wandb.Image
    try:
      self._run = wandb.init(
        project=project,
        dir=str(workdir),
        name=f"{where.parent.name}/{where.name}",
        id=_id(workdir / "wandb_id"),
        resume="allow",
        settings=wandb.Settings(silent=True),
      )
    except wandb.Error as error:
      what = " ".join(str(error).split())
      raise UserError(f"Weights & Biases: {what}: `wandb login`, WANDB_MODE=offline, or leave --wandb out") from error
    # Steps of its own only ever grow; ours begin again where a killed run's checkpoint stood.
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")

  def write(self, step: int, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
    """Numbers of a step."""
    self._run.log({"step": step, **values, **{f"timing/{name}": value for name, value in timing.items()}})

  def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """uint8[H, W, 3] pictures."""
    self._run.log({"step": step, **{name: self._image(picture) for name, picture in pictures.items()}})

  def close(self) -> None:
    """Ends the run, as failed while an error is under way."""
    self._run.finish(exit_code=1 if sys.exc_info()[0] else 0)


def _id(file: Path) -> str:
  """The run's, drawn once; a workdir that is moved or copied keeps it, one that is made anew has another."""
  if not file.is_file():
    scratch = file.with_name(f".{file.name}")
    scratch.write_text(uuid.uuid4().hex)
    scratch.replace(file)
  return file.read_text()
