"""Plots of a result: figures over blur radii as in the paper's comparison, a sweep's trade-off, the loss by grid cell.

h w code grid.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from dalle_jax.evaluation.metrics.figures import SHARE, Figure
from dalle_jax.evaluation.plots import Paper

BETTER_LOW = ("fid", "kid", "fd_clip")


def over_blur(figures: Sequence[Figure], metric: str) -> Callable[[Axes, Paper], object]:
  """One metric of drawn and of real pictures by radius; dashed without those of the exclusion list (paper 3.1)."""
  own = [each for each in figures if each.metric == metric]
  scale, unit = (100, "%") if own[0].unit == SHARE else (1, own[0].unit)

  def draw(axes: Axes, paper: Paper) -> None:
    lines = dict.fromkeys((each.of, each.setting, each.without_list) for each in own)
    colours = dict(zip(dict.fromkeys(line[:2] for line in lines), paper.series * len(lines)))
    for of, setting, excluded in lines:
      points = [each for each in own if (each.of, each.setting, each.without_list) == (of, setting, excluded)]
      name = " ".join(part for part in (of, setting, "without those like training's" if excluded else "") if part)
      radii, values = [each.blur for each in points], [scale * each.value for each in points]
      if all(each.low is not None and each.high is not None for each in points):
        low, high = ([scale * getattr(each, end) for each in points] for end in ("low", "high"))
        axes.fill_between(radii, low, high, color=colours[of, setting], alpha=0.13, linewidth=0)
      how = {"color": colours[of, setting], "linestyle": "--" if excluded else "-", "label": name}
      axes.plot(radii, values, marker="o", markersize=4, linewidth=1.8, **how)
    axes.set_xticks(sorted({each.blur for each in own}))
    axes.set_xlabel("blur radius, pixels")
    axes.set_ylabel(f"{metric}, {unit}" if unit else metric)
    if len(lines) > 1:
      axes.legend(frameon=False, labelcolor="linecolor", fontsize=9)

  return draw


def pareto(points: Sequence[tuple[str, Figure, Figure]], best: Sequence[bool]) -> Callable[[Axes, Paper], object]:
  """Each setting's two figures; those that no other setting beats in both are joined."""

  def draw(axes: Axes, paper: Paper) -> None:
    for (name, x, y), chosen in zip(points, best):
      colour = paper.series[0] if chosen else paper.soft
      axes.plot([x.value], [y.value], marker="o", markersize=6, color=colour)
      axes.annotate(name, (x.value, y.value), (6, 4), textcoords="offset points", color=colour, fontsize=8.5)
    front = sorted((x.value, y.value) for (_, x, y), chosen in zip(points, best) if chosen)
    axes.plot([x for x, _ in front], [y for _, y in front], color=paper.series[0], linewidth=1.2, linestyle=":")
    _, x, y = points[0]
    axes.margins(0.16)
    axes.set_xlabel(f"{x.metric} ({'less' if x.metric in BETTER_LOW else 'more'} is better)")
    axes.set_ylabel(f"{y.metric} ({'less' if y.metric in BETTER_LOW else 'more'} is better)")

  return draw


def by_cell(nats_hw: Float[np.ndarray, "h w"]) -> Callable[[Axes, Paper], object]:
  """The mean loss of each cell of the grid of codes, in the order in which they are drawn."""

  def draw(axes: Axes, paper: Paper) -> None:
    image = axes.imshow(nats_hw, cmap="viridis", vmin=0)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label("nats a token", color=paper.soft)
    bar.ax.tick_params(colors=paper.soft, length=0)
    bar.outline.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])

  return draw


def front(points: Sequence[tuple[str, Figure, Figure]]) -> list[bool]:
  """Of each setting, whether no other is as good in both figures and better in one."""

  def goodness(figure: Figure) -> float:
    return -figure.value if figure.metric in BETTER_LOW else figure.value

  values = [(goodness(x), goodness(y)) for _, x, y in points]
  return [not any(_beats(other, own) for other in values) for own in values]


def _beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
  return a[0] >= b[0] and a[1] >= b[1] and a != b
