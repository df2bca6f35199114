"""What the packs of numerics are decided by: gradients lost by rounding, scales, updates left out; and their plot.

All are read from what a run of `objectives.half_nll` reports of its branches while it trains.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from dalle_jax.ablations.pack import Metric, Plot
from dalle_jax.errors import UserError
from dalle_jax.evaluation import plots
from dalle_jax.evaluation.plots import Paper
from dalle_jax.objectives.half_nll import HalfNll
from dalle_jax.training import metrics as log
from dalle_jax.workdir import Workdir

STAGE = "transformer"
LAST = 0.25  # the share of a run that figures are of


def underflow(*, smallest: float, where: str = "late") -> Metric:
  """The share of the gradients' numbers in the last ("late") or first ("early") quarter of branches that round to 0.

  Of the numbers that were not 0 before, at all places of a branch where there are few bits.
  """
  name = f"underflow of {where} blocks"
  return _mean(f"underflow_{where}", name, "of the gradients' numbers", smallest)


def scale(*, smallest: float) -> Metric:
  """The mean of the scales' logarithms to base 2, without the number of replicas; more is better."""
  return _mean("log2_scale", "mean scale", "log2", smallest, lower=False)


def _mean(key: str, name: str, unit: str, smallest: float, lower: bool = True) -> Metric:
  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    rows = _rows(workdir)
    found = float(np.mean([row[key] for row in rows[-max(1, round(LAST * len(rows))) :]]))
    return found - _replicas(workdir) if key == "log2_scale" else found

  return Metric(
    name=f"{name}, the last quarter of training", unit=unit, smallest=smallest, measure=measure, lower=lower
  )


def over_time() -> Plot:
  """Every scale of each arm over the steps, early branches dark and late ones light, and the underflow of late ones."""
  return Plot(name="scales", draw=draw)


def draw(runs: Mapping[str, Workdir], file: Path) -> None:
  """Writes the picture of a run of each arm."""
  panels = [functools.partial(_scales, name, workdir) for name, workdir in runs.items()]
  plots.save_panels([*panels, lambda axes, paper: _lost(runs, axes, paper)], file)


def _scales(name: str, workdir: Workdir, axes: Axes, paper: Paper) -> None:
  rows, replicas = _rows(workdir), _replicas(workdir)
  scales = [key for key in rows[-1] if key.startswith("log2_scale/")]
  named = {part: i for i, part in enumerate(_objective(workdir).parts())}
  for key in sorted(scales, key=lambda key: named.get(key.split("/")[1], 0)):
    depth = named.get(key.split("/")[1], 0) / max(1, len(named) - 1)
    colour = colormaps["viridis"](0.9 * depth) if len(scales) > 1 else paper.series[0]
    axes.plot([row["step"] for row in rows], [row[key] - replicas for row in rows], color=colour, linewidth=0.7)
  axes.ticklabel_format(axis="y", useOffset=False)
  axes.set_ylabel(f"log2 scale\n{name}")


def _lost(runs: Mapping[str, Workdir], axes: Axes, paper: Paper) -> None:
  for (name, workdir), colour in zip(runs.items(), paper.series):
    rows = _rows(workdir)
    axes.plot([row["step"] for row in rows], [row["underflow_late"] for row in rows], color=colour, label=name)
  axes.set_ylabel("underflow, late")
  axes.set_xlabel("step")
  axes.legend(frameon=False, labelcolor=paper.ink)


def _rows(workdir: Workdir) -> list[dict]:
  rows = [row for row in log.read(workdir.path / STAGE / "metrics.jsonl") if "underflow_late" in row]
  if not rows:
    raise UserError(f"{workdir} has no underflow in {STAGE}/metrics.jsonl: its objective is not in few bits")
  return rows


def _objective(workdir: Workdir) -> HalfNll:
  return workdir.experiment().stage(STAGE).objective


def _replicas(workdir: Workdir) -> float:
  return float(np.log2(_objective(workdir).replicas))
