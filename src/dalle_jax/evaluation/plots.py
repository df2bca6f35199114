"""The page's plots, each for light and for dark paper: best of N, the codes in use, a stage's losses.

V codebook.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dalle_jax.evaluation import composition
from dalle_jax.evaluation.composition import Judged
from dalle_jax.evaluation.reconstruction import Reconstruction


@dataclasses.dataclass(frozen=True)
class Paper:
  """Colours on one kind of paper."""

  name: str
  ink: str
  soft: str
  line: str
  series: tuple[str, ...]


PAPERS = (
  Paper("light", "#1c1d20", "#66686e", "#e3e1dc", ("#2458c6", "#d9742b", "#1d8f4a", "#8d4bb5", "#b8336a", "#5b6470")),
  Paper("dark", "#e9e8e4", "#9b9ca3", "#33353b", ("#7fa7ff", "#f2a15f", "#46c27c", "#c596e6", "#f284ad", "#a9b1bd")),
)


def save(draw: Callable[[Axes, Paper], object], file: Path, *, size: tuple[float, float] = (6.0, 3.6)) -> None:
  """Writes FILE-light.png and FILE-dark.png, on no background."""
  for paper in PAPERS:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    draw(axes, paper)
    _dress(axes, paper)
    figure.savefig(f"{file}-{paper.name}.png", dpi=192, transparent=True)


def save_panels(draws: Sequence[Callable[[Axes, Paper], object]], file: Path, *, width: float = 6.4) -> None:
  """Writes one PNG with a panel below the other, all of the same steps along the bottom, on light paper."""
  paper = PAPERS[0]
  figure = Figure(figsize=(width, 2.3 * len(draws) + 0.4), layout="constrained", facecolor="#fbfaf8")
  for axes, draw in zip(np.ravel(figure.subplots(len(draws), sharex=True, squeeze=False)), draws):
    axes.set_facecolor("none")
    draw(axes, paper)
    axes.label_outer()
    _dress(axes, paper)
  figure.savefig(file, dpi=144)


def best_of_n(judged: Judged, by: str) -> Callable[[Axes, Paper], object]:
  """How often the best of n by a ranker is right as n grows, by number of objects, and its 95 % interval.

  Dotted: by a perfect ranker, which is how often any of the n is right.
  """

  def draw(axes: Axes, paper: Paper) -> None:
    for colour, count in zip(paper.series, np.unique(judged.objects_C).tolist()):
      curve, perfect = composition.curve(judged, by, count), composition.curve(judged, None, count)
      n, rate, low, high = (
        list(curve),
        *(np.array([getattr(p, end) for p in curve.values()]) for end in ("rate", "low", "high")),
      )
      axes.fill_between(n, 100 * low, 100 * high, color=colour, alpha=0.13, linewidth=0)
      axes.plot(n, 100 * rate, color=colour, marker="o", markersize=4, linewidth=2)
      axes.plot(n, [100 * p.rate for p in perfect.values()], color=colour, linewidth=1.2, linestyle=":")
      name = f"{count} object" + "s" * (count > 1)
      axes.annotate(name, (n[-1], 100 * rate[-1]), (8, -4), textcoords="offset points", color=colour, fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(n, [str(each) for each in n])
    axes.set_xlim(0.9, n[-1] * 2)
    axes.set_ylim(0, 102)
    axes.set_xlabel(f"samples a caption, the best chosen by {by} (dotted: by a perfect ranker)")
    axes.set_ylabel(f"all right, % of {judged.split}")

  return draw


def code_usage(measured: Reconstruction) -> Callable[[Axes, Paper], object]:
  """The codes from the most to the least used, and each one's share, logarithmic: a few are all the flat ground."""

  def draw(axes: Axes, paper: Paper) -> None:
    share_V = np.sort(measured.counts_V)[::-1] / measured.counts_V.sum()
    least, even = 50 / measured.counts_V.sum(), 100 / len(share_V)  # half a token
    axes.set_yscale("log")
    axes.fill_between(
      np.arange(len(share_V)),
      least,
      np.maximum(100 * share_V, least),
      step="post",
      color=paper.series[0],
      alpha=0.85,
      linewidth=0,
    )
    axes.axhline(even, color=paper.soft, linewidth=1, linestyle="--")
    axes.annotate("all alike", (len(share_V), even), (-4, 4), textcoords="offset points", ha="right", color=paper.soft)
    axes.set_ylim(least, None)
    axes.set_xlim(0, len(share_V))
    axes.set_xlabel("codes, the most used first")
    axes.set_ylabel("% of all tokens")

  return draw


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> Callable[[Axes, Paper], object]:
  """Every metric named loss or nll of a stage's metrics.jsonl, by step."""
  told = dict.fromkeys(name for row in rows for name in row)  # the last row may be what a hook measured
  names = [name for name in told if name.startswith(("loss", "nll")) and name != "loss"]
  names = ["loss", *names] if "loss" in told else names

  def draw(axes: Axes, paper: Paper) -> None:
    for colour, name in zip(paper.series, names):
      points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
      if points:
        steps, values = zip(*points)
        axes.plot(steps, values, color=colour, linewidth=1.8, label=name.replace("_", " "))
    if axes.lines:
      axes.legend(frameon=False, labelcolor="linecolor", fontsize=9)
      values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
      if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("nats")

  return draw


def _dress(axes: Axes, paper: Paper) -> None:
  axes.grid(axis="y", color=paper.line, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=paper.soft, labelsize=9.5, length=0, which="both")
  axes.xaxis.label.set(color=paper.soft, size=10)
  axes.yaxis.label.set(color=paper.soft, size=10)
  for side, spine in axes.spines.items():
    spine.set(visible=side == "bottom", color=paper.line)
