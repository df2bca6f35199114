"""Figures of a first stage beside those of `ablations.metrics`: how it starts, and whether it stays in bounds."""

from typing import Any

from dalle_jax.ablations import logged
from dalle_jax.ablations.pack import Metric
from dalle_jax.workdir import Workdir

FIRST = 0.1  # the share of a run's lines that is its start


def early_loss(*, smallest: float, stage: str = "dvae") -> Metric:
  """Mean training loss over the first tenth of the lines of metrics.jsonl; of lines not finite see `logged.mean`."""

  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    lines = logged.column(workdir, stage, "loss")
    return logged.mean(lines[: max(1, round(FIRST * len(lines)))])

  return Metric(name="training loss, the first tenth", unit="nats a sub-pixel", smallest=smallest, measure=measure)
