"""OUT/index.html: a result's figures, plots and pictures, and every protocol; its PNGs are in OUT/page/.

N pictures, C captions, H W pixels, h w code grid.
"""

import dataclasses
import html
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from dalle_jax.data.scratch import FULL
from dalle_jax.errors import StorageError, UserError
from dalle_jax.evaluation import plots as shared
from dalle_jax.evaluation.metrics import plots, protocol, result
from dalle_jax.evaluation.metrics.figures import Figure
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.sampling import static_page
from dalle_jax.sampling.gallery import save_picture

Pictures = UInt8[np.ndarray, "N H W 3"]
Drawn = UInt8[np.ndarray, "C H W 3"]


SAID_BY_ANOTHER = ("clip_cosine", "r_precision_of_all")  # what clip_score and r_precision say
STYLE = """
.drawn { display: grid; grid-template-columns: repeat(auto-fill, 128px); gap: 1rem; }
.drawn figcaption { overflow-wrap: anywhere; font-size: .76rem; }
.pair { display: flex; gap: 2px; margin-right: .8rem; }
"""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
  """What there is to look at: reconstructions beside their originals, drawn pictures with their captions, the loss.

  drawn: by the setting they were drawn with; nats_hw: the mean loss of each cell of the grid of codes.
  """

  pairs: tuple[Pictures, Pictures] | None = None
  captions: tuple[str, ...] = ()
  drawn: tuple[tuple[str, Drawn], ...] = ()
  nats_hw: Float[np.ndarray, "h w"] | None = None


def write(out: Path, measured: Sequence[Measured], looks: Looks, *, title: str, notes: Sequence[str]) -> Path:
  """Writes the page and returns its path. Raises UserError where it can't be written, StorageError on a full disk."""
  figures, folder = [each.figure for each in measured], out / "page"
  try:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sections = [
      *(f'<p class="note">{html.escape(note)}</p>' for note in notes),
      *_sweep(figures, folder),
      _table(figures),
      *_blur(figures, folder),
      *_drawn(looks, folder),
      *_pairs(looks, folder),
      *_cells(looks, folder),
      *_protocols(measured),
    ]
    page = out / "index.html"
    page.write_text(static_page.page(title, sections, style=STYLE))
  except OSError as error:
    said = f"cannot write the page to {out}: {error.strerror or error}"
    raise (StorageError if error.errno in FULL else UserError)(said) from error
  return page


def _table(figures: Sequence[Figure]) -> str:
  columns, notes = result.head(figures), result.notes(figures)
  rows = [[html.escape(text) for text in result.row(each, columns, notes)] for each in figures]
  told = [f'<p class="note">({i}) {html.escape(note)}</p>' for i, note in enumerate(notes, start=1)]
  table = static_page.table(columns, rows, reference=[each.of == "real" for each in figures])
  return "<h2>Figures</h2>" + table + "".join(told)


def _sweep(figures: Sequence[Figure], folder: Path) -> list[str]:
  """Of a sweep, a table of all settings, and every two of the metrics that pull against each other."""
  own = [each for each in figures if each.setting and not each.blur and not each.without_list]
  by_setting = {(each.metric, each.setting): each for each in own if not each.metric.startswith("composition_")}
  metrics, settings = (list(dict.fromkeys(key[i] for key in by_setting)) for i in (0, 1))
  if len(settings) < 2:
    return []
  points = {(first, second): _points(by_setting, settings, first, second) for first, second in _pairs_of(metrics)}
  best = {pair: dict(zip(settings, plots.front(each))) for pair, each in points.items()}
  head = ["drawn with", *metrics, "best in"]
  rows = []
  for name in settings:
    where = ", ".join(f"{first} and {second}" for (first, second), chosen in best.items() if chosen[name])
    rows.append([html.escape(name), *(html.escape(by_setting[metric, name].told()) for metric in metrics), where])
  sections = ["<h2>Ways to draw</h2>", static_page.table(head, rows)]
  sections.append('<p class="note">Best in two figures: no other way is as good in both and better in one.</p>')
  for (first, second), each in points.items():
    file = f"sweep-{first}-{second}"
    shared.save(plots.pareto(each, list(best[first, second].values())), folder / file, size=(6.4, 4.2))
    sections.append(_plot(file, f"{first} and {second} of each way to draw"))
  return sections


def _pairs_of(metrics: Sequence[str]) -> list[tuple[str, str]]:
  """Every two."""
  own = [metric for metric in metrics if metric not in SAID_BY_ANOTHER]
  return [(first, second) for i, first in enumerate(own) for second in own[i + 1 :]]


def _points(
  by_setting: Mapping[tuple[str, str], Figure], settings: Sequence[str], first: str, second: str
) -> list[tuple[str, Figure, Figure]]:
  return [(name, by_setting[first, name], by_setting[second, name]) for name in settings]


def _blur(figures: Sequence[Figure], folder: Path) -> list[str]:
  found = dict.fromkeys(each.metric for each in figures if each.blur)
  metrics = [each for each in found if each not in SAID_BY_ANOTHER and not each.startswith("composition_")]
  for metric in metrics:
    shared.save(plots.over_blur(figures, metric), folder / f"blur-{metric}")
  drawn = [_plot(f"blur-{metric}", f"{metric} by blur radius", width=400) for metric in metrics]
  return ["<h2>Without fine detail</h2>", f'<div class="figures">{"".join(drawn)}</div>'] if drawn else []


def _drawn(looks: Looks, folder: Path) -> list[str]:
  sections = []
  for number, (setting, images_NHWC) in enumerate(looks.drawn):
    figures = []
    for i, (caption, image_HWC) in enumerate(zip(looks.captions, images_NHWC)):
      save_picture(image_HWC, folder / f"drawn-{number}-{i:02d}.png")
      figures.append(static_page.figure(f"page/drawn-{number}-{i:02d}.png", html.escape(caption), alt=caption))
    sections += [
      f"<h3>{html.escape(setting)}</h3>" if setting else "",
      f'<div class="drawn">{"".join(figures)}</div>',
    ]
  return ["<h2>Drawn</h2>", *sections] if sections else []


def _pairs(looks: Looks, folder: Path) -> list[str]:
  if looks.pairs is None:
    return []
  pairs = []
  for i, pair in enumerate(zip(*looks.pairs)):
    figures = []
    for kind, image_HWC in zip(("picture", "reconstructed"), pair):
      save_picture(image_HWC, folder / f"{kind}-{i:02d}.png")
      figures.append(static_page.figure(f"page/{kind}-{i:02d}.png", kind, width=96, alt=kind))
    pairs.append(f'<div class="pair">{"".join(figures)}</div>')
  return ["<h2>Reconstructions</h2>", f'<div class="pictures">{"".join(pairs)}</div>']


def _cells(looks: Looks, folder: Path) -> list[str]:
  if looks.nats_hw is None:
    return []
  shared.save(plots.by_cell(looks.nats_hw), folder / "cells", size=(4.4, 3.6))
  return ["<h2>Where the loss is</h2>", _plot("cells", "mean loss of each cell of the grid", width=440)]


def _protocols(measured: Sequence[Measured]) -> list[str]:
  by_identity = {protocol.identity(each.protocol): each.protocol for each in measured}
  names = {
    key: ", ".join(dict.fromkeys(each.figure.metric for each in measured if protocol.identity(each.protocol) == key))
    for key in by_identity
  }
  return [
    "<h2>How it was measured</h2>",
    *(
      f"<details><summary>{html.escape(names[key])}</summary>"
      f"<pre>{html.escape(json.dumps(about, indent=2))}</pre></details>"
      for key, about in by_identity.items()
    ),
  ]


def _plot(file: str, alt: str, width: int = 620) -> str:
  return static_page.plot(f"page/{file}-light.png", f"page/{file}-dark.png", alt, width)
