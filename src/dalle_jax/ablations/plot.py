"""A pack's plot: every arm's figure at every seed, its mean and interval, for light and for dark paper."""

import textwrap
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from dalle_jax.ablations.table import Table
from dalle_jax.evaluation import plots
from dalle_jax.evaluation.plots import Paper

WIDEST = 60  # letters of a line below the axis


def write(folder: Path, table: Table) -> None:
  """Writes FOLDER/plot-light.png and plot-dark.png."""
  plots.save(draw(table), folder / "plot", size=(6.4, 1.2 + 0.5 * len(table["arms"])))


def draw(table: Table) -> Callable[[Axes, Paper], object]:
  """Arms from top to bottom, the deciding figure along the bottom; a shade of the least that would matter."""
  metric, rows = table["metric"], table["arms"]

  def onto(axes: Axes, paper: Paper) -> None:
    first = rows[0]["figures"][metric["name"]]
    if first:
      axes.axvspan(first["mean"] - metric["smallest"], first["mean"] + metric["smallest"], color=paper.line, zorder=0)
    for y, row in enumerate(rows):
      found = row["figures"][metric["name"]]
      colour = paper.soft if row["arm"] == table["control"]["arm"] else paper.series[0]
      if found is None:
        axes.annotate("no figure", (0.02, y), xycoords=("axes fraction", "data"), color=paper.soft, va="center")
        continue
      values = list(found["values"].values())
      axes.scatter(values, [y] * len(values), s=18, color=colour, alpha=0.55, linewidths=0)
      axes.scatter([found["mean"]], [y], s=46, color=colour, zorder=3)
      if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [y, y], color=colour, linewidth=1.6)
    axes.set_yticks(range(len(rows)), [row["arm"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    better = "less" if metric["lower"] else "more"
    axes.set_xlabel(textwrap.fill(f"{metric['name']}, {metric['unit']} ({better} is better)", WIDEST))

  return onto
