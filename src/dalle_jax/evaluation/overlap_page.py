"""The page of `dalle data overlap`: evaluation pictures beside their nearest training pictures, about the threshold.

    index.html    neighbours.tsv    cosines-light.png  cosines-dark.png    pictures/

M shown evaluation pictures, N all of them, K neighbours.
"""

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from PIL import Image

from dalle_jax.evaluation import plots
from dalle_jax.evaluation.neighbours import Neighbours
from dalle_jax.evaluation.picture_sets import PictureSet
from dalle_jax.sampling import static_page
from dalle_jax.sampling.gallery import save_picture

MOST_PIXELS = 256  # a side of the copies that are shown
WIDTH = 128
STYLE = """
.pair { display: flex; flex-wrap: wrap; gap: .6rem; align-items: start; margin: .8rem 0; }
.pair figure { width: 128px; } .pair img { width: 128px; height: 128px; object-fit: contain; }
.pair figcaption { overflow-wrap: anywhere; } .pair figure:first-child { margin-right: 1.2rem; }
.threshold { border-top: 3px solid var(--wrong); color: var(--wrong); font-weight: 600; margin: 2rem 0 1rem; }
"""


def chosen(cosine_N: Float[np.ndarray, " N"], threshold: float | None, count: int) -> Int[np.ndarray, " M"]:
  """Which pictures are shown, the closest first: of a threshold those about it, half above and half below.

  Without a threshold half are the closest, and the others stand evenly among the rest. Where there are fewer on one
  side, there are more of the other.
  """
  order_N = np.argsort(-cosine_N, kind="stable")
  if len(order_N) <= count:
    return order_N
  if threshold is None:
    top = order_N[: count - count // 2]
    rest = order_N[len(top) :]
    return np.concatenate([top, rest[np.linspace(0, len(rest) - 1, count // 2).round().astype(int)]])
  above = int((cosine_N >= threshold).sum())
  first = min(max(0, above - (count - count // 2)), len(order_N) - count)
  return order_N[first : first + count]


def write(
  out: Path,
  training: PictureSet,
  evaluation: PictureSet,
  found: Neighbours,
  *,
  threshold: float | None,
  pairs: int,
  about: Mapping[str, Any],
  progress: Callable[[str, int, int], object],
) -> Path:
  """Writes the page with its pictures, the plot and the table under `out`; returns the page's path."""
  cosine_N = found.cosine_BK[:, 0]
  (out / "pictures").mkdir(parents=True)
  (out / "neighbours.tsv").write_text(_table(training, evaluation, found, progress), encoding="utf-8")
  plots.save(_cosines(cosine_N, threshold), out / "cosines", size=(6.0, 3.0))
  shown_M, told = chosen(cosine_N, threshold, pairs), []
  crossed = threshold is None
  progress("pairs shown", 0, len(shown_M))
  for i, number in enumerate(shown_M.tolist()):
    if not crossed and threshold is not None and cosine_N[number] < threshold:
      told.append(f'<p class="threshold">threshold {threshold:g}: what is above is left out, what is below stays</p>')
      crossed = True
    told.append(_pair(out, i, number, training, evaluation, found))
    progress("pairs shown", i + 1, len(shown_M))
  if not crossed:
    told.append(f'<p class="threshold">threshold {threshold:g}: all that is shown is left out</p>')
  page = out / "index.html"
  page.write_text(
    static_page.page("Pictures that training has seen", _opening(cosine_N, threshold, about) + told, style=STYLE),
    encoding="utf-8",
  )
  return page


def shares(cosine_N: Float[np.ndarray, " N"], threshold: float | None) -> list[tuple[float, int]]:
  """For some thresholds, and the one that was chosen, how many pictures are left out."""
  grid = {round(each, 3) for each in (0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.999)}
  return [(each, int((cosine_N >= each).sum())) for each in sorted(grid | ({threshold} if threshold else set()))]


def _opening(cosine_N: Float[np.ndarray, " N"], threshold: float | None, about: Mapping[str, Any]) -> list[str]:
  rows = [
    [f"<b>{each:g}</b>" if each == threshold else f"{each:g}", f"{count:,}", f"{100 * count / len(cosine_N):.1f} %"]
    for each, count in shares(cosine_N, threshold)
  ]
  said = (
    "No threshold is chosen yet, and no list was written. Look for the place where pairs stop being the same picture, "
    "and run the command again with --threshold a little below it: neighbours are not looked for again."
    if threshold is None
    else f"An evaluation picture is left out where the cosine of its nearest training picture is {threshold:g} or more."
  )
  return [
    f'<p class="lead">{html.escape(said)}</p>',
    static_page.definition_list(dict(about)),
    '<p class="note">The cosine is that of the two pictures&#39; vectors in the space named above: 1 where they have '
    "the same direction. It says how alike two pictures are to that network, not how probably one is a copy, and means "
    "something else in another space. The paper chose its threshold by hand, low enough that few copies stay, at the "
    "cost of pictures that are left out and are none.</p>",
    static_page.plot("cosines-light.png", "cosines-dark.png", "cosines of the nearest training pictures", 560),
    static_page.table(["threshold", "pictures left out", "of all"], rows),
    '<p class="note"><a href="neighbours.tsv">neighbours.tsv</a> has every evaluation picture.</p>',
    "<h2>Evaluation pictures and their nearest training pictures</h2>",
  ]


def _pair(out: Path, place: int, number: int, training: PictureSet, evaluation: PictureSet, found: Neighbours) -> str:
  own = html.escape(evaluation.key(number))
  figures = [_figure(out, f"{place:04d}-evaluation.png", evaluation.picture(number), own)]
  for i, (cosine, row) in enumerate(zip(found.cosine_BK[number].tolist(), found.row_BK[number].tolist())):
    under = f"<b>{cosine:.4f}</b> {html.escape(training.key(row))}"
    figures.append(_figure(out, f"{place:04d}-training-{i}.png", training.picture(row), under))
  return f'<div class="pair">{"".join(figures)}</div>'


def _figure(out: Path, file: str, image_HWC: np.ndarray, under: str) -> str:
  height, width, _ = image_HWC.shape
  if max(height, width) > MOST_PIXELS:
    scale = MOST_PIXELS / max(height, width)
    smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
    image_HWC = np.asarray(Image.fromarray(image_HWC).resize(smaller, Image.Resampling.BOX))
  save_picture(image_HWC, out / "pictures" / file)
  return static_page.figure(f"pictures/{file}", under, width=WIDTH)


def _table(
  training: PictureSet, evaluation: PictureSet, found: Neighbours, progress: Callable[[str, int, int], object]
) -> str:
  lines = ["key\tcosine\tnearest"]
  progress("names", 0, evaluation.count)
  for number in range(evaluation.count):
    names = (evaluation.key(number), training.key(int(found.row_BK[number, 0])))
    own, near = (" ".join(name.split()) for name in names)
    lines.append(f"{own}\t{found.cosine_BK[number, 0]:.6f}\t{near}")
  progress("names", evaluation.count, evaluation.count)
  return "\n".join(lines) + "\n"


def _cosines(cosine_N: Float[np.ndarray, " N"], threshold: float | None) -> Callable[[Axes, plots.Paper], object]:
  def draw(axes: Axes, paper: plots.Paper) -> None:
    axes.hist(cosine_N, bins=60, color=paper.series[0], alpha=0.85)
    axes.set_yscale("symlog", linthresh=20)
    if threshold is not None:
      axes.axvline(threshold, color=paper.series[1], linewidth=1.6)
      said = {"xytext": (4, -10), "textcoords": "offset points", "color": paper.series[1], "fontsize": 9}
      axes.annotate(f"threshold {threshold:g}", (threshold, axes.get_ylim()[1]), **said)
    axes.set_xlabel("cosine of the nearest training picture")
    axes.set_ylabel("evaluation pictures")

  return draw
