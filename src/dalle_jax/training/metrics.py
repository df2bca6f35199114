"""What a run reports: lines of JSON, TensorBoard's curves, pictures as PNG; to Weights & Biases where it is asked for.

Everything that depends on the clock stands under "timing", so the rest of metrics.jsonl is the same for an interrupted
run as for one that was not: what lies after the step it resumes from is cut off first.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from dalle_jax.errors import StorageError
from dalle_jax.training.tensorboard import Board
from dalle_jax.training.wandb_log import WandbLog


class MetricsLog:
  """Writes WORKDIR/metrics.jsonl, tensorboard/ and pictures/, from the step after `resumed` on.

  wandb: a project of Weights & Biases that gets the same; UserError where it refuses.
  Every method raises StorageError when it can't be written.
  """

  def __init__(self, workdir: Path, resumed: int, wandb: str | None = None):
    self._workdir = workdir
    self._pictures = workdir / "pictures"
    self._file = workdir / "metrics.jsonl"
    with _writing(self._file):
      _cut_after(self._file, resumed)
      self._wandb = WandbLog(wandb, workdir) if wandb else None
      self._lines = self._file.open("ab", buffering=0)
      self._board = Board(workdir / "tensorboard", purge_step=resumed + 1)

  def write(self, step: int, values: Mapping[str, float], timing: Mapping[str, float] | None = None) -> None:
    """A line of JSON, with null for what is not finite, and a point on each of TensorBoard's curves."""
    row = {"step": step} | {k: v if math.isfinite(v) else None for k, v in sorted(values.items())}
    line = json.dumps(row | ({"timing": dict(timing)} if timing else {})) + "\n"
    with _writing(self._file):
      self._lines.write(line.encode())
      self._board.scalars(step, {**values, **{f"timing/{k}": v for k, v in (timing or {}).items()}})
    if self._wandb:
      self._wandb.write(step, values, timing or {})

  def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """uint8[H, W, 3] pictures: a PNG each, and on TensorBoard."""
    for name, picture in pictures.items():
      with _writing(self._pictures):
        self._pictures.mkdir(exist_ok=True)
        Image.fromarray(picture).save(self._pictures / f"{name}-{step:07d}.png")
        self._board.picture(step, name, picture)
    if self._wandb:
      self._wandb.show(step, pictures)

  def text(self, name: str, text: str) -> None:
    """A text file in the workdir."""
    with _writing(self._workdir / name):
      (self._workdir / name).write_text(text)

  def close(self) -> None:
    """Flushes and closes."""
    self._lines.close()
    self._board.close()
    if self._wandb:
      self._wandb.close()


class NoLog:
  """What the processes but the first write: nothing."""

  def write(self, step: int, values: Mapping[str, float], timing: Mapping[str, float] | None = None) -> None:
    """Nothing."""

  def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """Nothing."""

  def text(self, name: str, text: str) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""


def read(file: Path) -> list[dict]:
  """The rows of a metrics.jsonl; a line that a kill cut short is left out."""
  if not file.is_file():
    return []
  rows = []
  for line in file.read_text().splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return rows


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise StorageError(f"cannot write {path} ({error.strerror}); checkpoints are as they were") from error


def _cut_after(file: Path, step: int) -> None:
  if file.is_file():
    kept = [row for row in read(file) if row["step"] <= step]
    scratch = file.with_name(f".{file.name}")
    scratch.write_text("".join(json.dumps(row) + "\n" for row in kept))
    scratch.replace(file)
