"""A pack's plot: every arm's figure at every seed, its mean and interval, for light and for dark paper."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from dalle_jax.ablations.table import Table
from dalle_jax.evaluation import plots
from dalle_jax.evaluation.plots import Paper

WIDEST = 60  # letters of a line below the axis
FAR = 3  # times as wide as without the control: as wide as a plot with it may be


def write(folder: Path, table: Table) -> None:
  """Writes FOLDER/plot-light.png and plot-dark.png."""
  plots.save(draw(table), folder / "plot", size=(6.4, 1.2 + 0.5 * len(table["arms"])))


def draw(table: Table) -> Callable[[Axes, Paper], object]:
  """Arms from top to bottom, the deciding figure along the bottom; a shade of the least that would matter.

  A control that lies far off, as it should, would leave no room for the others: then an arrow points to where it is.
  """
  metric, rows, control = table["metric"], table["arms"], table["control"]["arm"]

  def onto(axes: Axes, paper: Paper) -> None:
    first = rows[0]["figures"][metric["name"]]
    if first:
      axes.axvspan(first["mean"] - metric["smallest"], first["mean"] + metric["smallest"], color=paper.line, zorder=0)
    low, high = span(table)
    for y, row in enumerate(rows):
      found = row["figures"][metric["name"]]
      colour = paper.soft if row["arm"] == control else paper.series[0]
      if found is None:
        axes.annotate("no figure", (0.02, y), xycoords=("axes fraction", "data"), color=paper.soft, va="center")
        continue
      if not low <= found["mean"] <= high:
        left = found["mean"] < low
        text = f"\u2190 {found['mean']:.4g}" if left else f"{found['mean']:.4g} \u2192"
        place = {"xycoords": ("axes fraction", "data"), "ha": "left" if left else "right", "va": "bottom"}
        axes.annotate(text, (0.02 if left else 0.98, y), color=colour, **place)
        continue
      values = list(found["values"].values())
      axes.scatter(values, [y] * len(values), s=18, color=colour, alpha=0.55, linewidths=0)
      axes.scatter([found["mean"]], [y], s=46, color=colour, zorder=3)
      if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [y, y], color=colour, linewidth=1.6)
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(rows)), [row["arm"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    better = "less" if metric["lower"] else "more"
    axes.set_xlabel(textwrap.fill(f"{metric['name']}, {metric['unit']} ({better} is better)", WIDEST))

  return onto


def span(table: Table) -> tuple[float, float]:
  """The least and greatest figure that the plot shows: of all arms, without the control if that would be most of it."""
  metric, control = table["metric"], table["control"]["arm"]
  own = {row["arm"]: found for row in table["arms"] if (found := row["figures"][metric["name"]])}
  ends = {name: _ends(found) for name, found in own.items()}
  others = [ends[name] for name in ends if name != control] or list(ends.values())
  if not others:
    return 0.0, 1.0
  low = min(least for least, _ in others) - metric["smallest"]
  high = max(most for _, most in others) + metric["smallest"]
  if control in ends:
    least, most = min(low, ends[control][0]), max(high, ends[control][1])
    low, high = (least, most) if most - least <= FAR * (high - low) else (low, high)
  edge = 0.04 * (high - low)
  return low - edge, high + edge


def _ends(found: Mapping[str, Any]) -> tuple[float, float]:
  values = [*found["values"].values(), *(found[end] for end in ("low", "high") if found[end] is not None)]
  return min(values), max(values)
