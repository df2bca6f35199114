"""Figures of a first stage beside those of `ablations.metrics`: how it starts, and whether it stays in bounds."""

from typing import Any

import numpy as np

from dalle_jax.ablations.pack import Metric
from dalle_jax.errors import UserError
from dalle_jax.training import metrics as log
from dalle_jax.workdir import Workdir

FIRST = 0.1  # the share of a run's lines that is its start


def early_loss(*, smallest: float, stage: str = "dvae") -> Metric:
  """Mean training loss over the first tenth of the lines of metrics.jsonl."""

  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    rows = _column(workdir, stage, "loss")
    return float(np.mean(rows[: max(1, round(FIRST * len(rows)))]))

  return Metric(name="training loss, the first tenth", unit="nats a sub-pixel", smallest=smallest, measure=measure)


def left_out(*, smallest: float, stage: str = "dvae") -> Metric:
  """The share of a run's updates that were left out, not finite or spikes."""

  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    return _column(workdir, stage, "skipped_total")[-1] / _column(workdir, stage, "step")[-1]

  return Metric(name="updates left out", unit="of all", smallest=smallest, measure=measure)


def _column(workdir: Workdir, stage: str, key: str) -> list[float]:
  """A training metric, line by line. Raises UserError where the run has none."""
  rows = [float(row[key]) for row in log.read(workdir.path / stage / "metrics.jsonl") if row.get(key) is not None]
  if not rows:
    raise UserError(f"{workdir} has no {key} in {stage}/metrics.jsonl")
  return rows
