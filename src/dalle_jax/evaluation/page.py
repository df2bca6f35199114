"""WORKDIR/index.html: pictures first, then what they score, then how they came to be; its PNGs are in WORKDIR/page/.

K kept samples, N examples, H W pixels.
"""

import html
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax.errors import UserError
from dalle_jax.evaluation import captioning, composition, plots
from dalle_jax.evaluation.report import Report, Shown
from dalle_jax.sampling import static_page
from dalle_jax.sampling.gallery import save_picture

LARGE, SMALL, PAIR = 128, 48, 68
SPLITS = {
  "test": "Combinations of attributes never seen together in training",
  "test_pairs": "Shapes in a colour that training never shows them in",
  "train": "Captions of the training split",
  "valid": "Pictures that training has not seen",
}
REFERENCES = ("chance", "ceiling", "true pictures", "any of")


def write(
  out: Path,
  report: Report,
  *,
  title: str,
  curves: Mapping[str, Sequence[Mapping[str, Any]]],
  times: Sequence[tuple[str, float]],
  goodput: Mapping[str, Mapping[str, float]],
  config: str,
) -> Path:
  """Writes the page and returns its path. What is not there (no CLIP, no judge, no curves) has no section.

  curves: the rows of each stage's metrics.jsonl; times: what ran and its seconds; goodput: each stage's seconds by
  what took them, its steps first; config: the resolved experiment.
  Raises UserError if `out` can't be written.
  """
  pictures = out / "page"
  try:
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    sections = [
      _lead(report),
      *_drawings(report, pictures),
      *_compositions(report, pictures),
      *_captions(report, pictures),
      *_retrievals(report),
      *_reconstructions(report, pictures),
      *_losses(report, curves, pictures),
      *_times(times),
      *_goodput(goodput),
      "<h2>Configuration</h2>",
      f"<details><summary>The resolved experiment</summary><pre>{html.escape(config)}</pre></details>",
    ]
    page = out / "index.html"
    page.write_text(static_page.page(title, sections))
  except OSError as error:
    raise UserError(f"cannot write the page to {out}: {error.strerror or error}") from error
  return page


def _lead(report: Report) -> str:
  protocol = report.protocol
  if not report.shown:
    return f'<p class="lead">Measured on the split {html.escape(report.split)}.</p>'
  sampling = f"temperature {protocol.sampling.temperature:g}"
  if protocol.sampling.top_k:
    sampling += f", the {protocol.sampling.top_k} most likely tokens"
  if protocol.sampling.top_p and protocol.sampling.top_p < 1:
    sampling += f", the tokens that hold {protocol.sampling.top_p:g} of the probability"
  if protocol.sampling.guidance != 1:
    sampling += f", guidance {protocol.sampling.guidance:g}"
  samples = "one sample" if protocol.samples == 1 else f"{protocol.samples} samples"
  ranked = f", ranked by {html.escape(report.ranked[0])}" if report.ranked else ""
  return f'<p class="lead">Drawn from captions alone: {samples} of each{ranked}, {sampling}.</p>'


def _drawings(report: Report, pictures: Path) -> list[str]:
  sections, number = [], 0
  for split in dict.fromkeys(each.split for each in report.shown):
    cards = []
    for each in (one for one in report.shown if one.split == split):
      cards.append(_card(each, pictures, number))
      number += 1
    judged = any(one.right_K is not None for one in report.shown if one.split == split)
    sections += [
      f"<h2>{html.escape(SPLITS.get(split, split))}</h2>",
      f'<p class="note">Split <b>{html.escape(split)}</b>. {_legend(report, judged)}</p>',
      f'<div class="cards">{"".join(cards)}</div>',
    ]
  return sections


def _legend(report: Report, judged: bool) -> str:
  first = html.escape(next(iter(report.ranked), ""))
  text = f"The best sample by {first} is the large one; under each its score. " if first else ""
  text += "Dashed: the picture that the caption was written for."
  if judged:
    text += (
      ' A <span class="right">green</span> edge: the judge finds all that the caption says;'
      ' <span class="wrong">red</span>: something is wrong. It has no say in the order.'
    )
  return text


def _card(shown: Shown, pictures: Path, number: int) -> str:
  figures = []
  for i, image_HWC in enumerate(shown.images_KHWC):
    name = f"{number:03d}-{i}.png"
    save_picture(image_HWC, pictures / name)
    mark = "" if shown.right_K is None else ("mark-right" if shown.right_K[i] else "mark-wrong")
    under = "" if shown.scores_K is None else f"{shown.scores_K[i]:.3f}"
    figures.append(
      static_page.figure(
        f"page/{name}", under, width=SMALL if i else LARGE, mark=mark, alt=f"drawn: {shown.caption}" if not i else ""
      )
    )
  save_picture(shown.truth_HWC, pictures / f"{number:03d}-true.png")
  truth = static_page.figure(f"page/{number:03d}-true.png", "true", width=SMALL, mark="truth", alt="the true picture")
  return (
    f'<div class="card"><h3>{html.escape(shown.caption)}</h3><div class="drawn">{figures[0]}'
    f'<div class="others">{"".join(figures[1:])}{truth}</div></div></div>\n'
  )


def _compositions(report: Report, pictures: Path) -> list[str]:
  if not report.composition:
    return []
  judged = report.composition[0]
  sections = ["<h2>How often the pictures are what their captions say</h2>"]
  sections.append(
    '<p class="note">A judge reads the pixels without the caption; a picture counts when every claim of the caption is '
    f"right. {len(judged.objects_C)} captions of each split, with 95 % intervals. Chance: pictures judged by captions "
    "of other pictures with as many objects. Ceiling: the true pictures as the dVAE reconstructs them.</p>"
  )
  for i, by in enumerate(judged.scores if judged.samples > 1 else ()):
    plots.save(plots.best_of_n(judged, by), pictures / f"best-of-n-{i}", size=(7.0, 3.8))
    sections.append(_plot(f"best-of-n-{i}", f"Share of right pictures by samples a caption, ranked by {by}", 640))
  for each in report.composition:
    rows = composition.table(each, report.best_of)
    columns = list(rows[0].by_objects)
    lines = [[html.escape(row.pictures), *(_proportion(row.by_objects[name]) for name in columns)] for row in rows]
    soft = [row.pictures.startswith(REFERENCES) for row in rows]
    drawn = "one sample" if each.samples == 1 else f"{each.samples} samples"
    name = f"{SPLITS.get(each.split, each.split)} ({each.split}), {drawn} of each caption"
    sections.append(f"<h3>{html.escape(name)}</h3>")
    sections.append(static_page.table(["", *columns], lines, reference=soft))
  by_aspect = composition.aspects(judged, (1, report.best_of[-1]))
  names = list(next(iter(by_aspect.values())))
  lines = [[name, *(_proportion(found[each]) for each in names)] for name, found in by_aspect.items()]
  sections += [
    f"<h3>What is right, by aspect ({html.escape(judged.split)})</h3>",
    static_page.table(["", *names], lines),
  ]
  return sections


def _captions(report: Report, pictures: Path) -> list[str]:
  written = report.written
  if written is None:
    return []
  cards = []
  for i, each in enumerate(written.shown):
    save_picture(each.image_HWC, pictures / f"written-{i:02d}.png")
    mark = "right" if each.right else "wrong"
    figure = static_page.figure(f"page/written-{i:02d}.png", "", width=LARGE, alt="the picture", mark=f"mark-{mark}")
    said = f'<div><p>{html.escape(each.text)}</p><p class="note">The data: {html.escape(each.own)}</p></div>'
    cards.append(f'<div class="card"><div class="drawn">{figure}{said}</div></div>')
  rows, by_aspect = captioning.table(written), captioning.aspects(written)
  columns, names = composition.columns_of(rows), list(next(iter(by_aspect.values())))
  lines = [[html.escape(row.pictures), *(_proportion(row.by_objects[name]) for name in columns)] for row in rows]
  return [
    "<h2>Captions written of pictures</h2>",
    f'<p class="note">{len(written.objects_C)} pictures of {html.escape(written.split)}, '
    f"{written.samples} captions of each; below each picture's best by its mean likelihood a token, and what the data "
    "says of it. A caption counts when a judge, who reads the pixels, finds all of it right, with 95 % intervals; one "
    "that is not of the data's form counts as wrong. Chance: captions of other pictures with as many objects.</p>",
    static_page.table(
      ["", *columns], lines, reference=[row.pictures.startswith(captioning.REFERENCES) for row in rows]
    ),
    static_page.table(["", *names], [[a, *(_proportion(found[n]) for n in names)] for a, found in by_aspect.items()]),
    f'<div class="cards">{"".join(cards)}</div>',
  ]


def _proportion(p: Any) -> str:
  return f"{100 * p.rate:.1f} % <small>{100 * p.low:.0f}–{100 * p.high:.0f}</small>"


def _retrievals(report: Report) -> list[str]:
  if not report.retrieval:
    return []
  rows = [
    [
      html.escape(f"{each.split}: {each.pictures}"),
      _proportion(each.within()),
      f"{100 * each.chance():.2f} %",
      str(len(each.ranks_C)),
      str(each.candidates),
    ]
    for each in report.retrieval
  ]
  return [
    "<h2>How often the true picture is among the ten nearest</h2>",
    '<p class="note">Nearest by pixels at 32×32, of all training pictures (and those of the held-out split, for its '
    "captions), with 95 % intervals.</p>",
    static_page.table(
      ["drawn from captions of", "among the 10 nearest", "chance", "captions", "candidates"],
      rows,
      reference=[each.pictures.startswith(REFERENCES) for each in report.retrieval],
    ),
  ]


def _reconstructions(report: Report, pictures: Path) -> list[str]:
  measured = report.reconstruction
  if measured is None or report.pairs_2NHWC is None:
    return []
  figures = []
  for i, (original_HWC, decoded_HWC) in enumerate(zip(*report.pairs_2NHWC)):
    for name, image_HWC in (("original", original_HWC), ("decoded", decoded_HWC)):
      save_picture(image_HWC, pictures / f"{name}-{i:02d}.png")
    figures.append(
      "<div>"
      + static_page.figure(f"page/original-{i:02d}.png", "", width=PAIR, alt="original")
      + static_page.figure(f"page/decoded-{i:02d}.png", "", width=PAIR, alt="reconstruction")
      + "</div>"
    )
  plots.save(plots.code_usage(measured), pictures / "codes")
  tiles = {
    "PSNR of reconstructions": f"{measured.psnr:.2f} dB",
    "of the mean picture": f"{measured.psnr_mean_picture:.2f} dB",
    f"of {len(measured.counts_V)} codes used": str(measured.used),
    "their perplexity": f"{measured.perplexity:.0f}",
  }
  return [
    "<h2>What the dVAE keeps</h2>",
    f'<p class="note">Pictures of {html.escape(report.split)}; under each, what its codes decode to. Numbers over '
    f"{measured.pictures} pictures.</p>",
    f'<div class="pictures">{"".join(figures)}</div>',
    '<div class="tiles">'
    + "".join(f'<div class="tile"><b>{value}</b><small>{name}</small></div>' for name, value in tiles.items())
    + "</div>",
    _plot("codes", "Share of each code, the most used first", 560),
  ]


def _losses(report: Report, curves: Mapping[str, Sequence[Mapping[str, Any]]], pictures: Path) -> list[str]:
  sections = []
  for stage, rows in curves.items():
    if rows:
      plots.save(plots.loss_curves(rows), pictures / f"loss-{stage}", size=(4.6, 3.1))
      name = html.escape(stage)
      sections.append(f"<div><h3>{name}</h3>{_plot(f'loss-{name}', f'Losses of {name} by step', 390)}</div>")
  if sections:
    sections = ["<h2>Training losses</h2>", f'<div class="figures">{"".join(sections)}</div>']
  if report.losses:
    lines = [
      [html.escape(stage), html.escape(name.replace("_", " ")), f"{value:.4g}"]
      for stage, metrics in report.losses.items()
      for name, value in metrics.items()
    ]
    sections += [
      f"<h2>Held-out losses ({html.escape(report.split)})</h2>",
      static_page.table(["stage", "metric", "value"], lines),
    ]
  return sections


def _times(times: Sequence[tuple[str, float]]) -> list[str]:
  if not times:
    return []
  rows = [[html.escape(what), duration(seconds)] for what, seconds in times]
  rows.append(["<b>together</b>", f"{duration(sum(seconds for _, seconds in times))}"])
  return ["<h2>What ran, and how long</h2>", static_page.table(["", "time"], rows)]


def _goodput(stages: Mapping[str, Mapping[str, float]]) -> list[str]:
  rows = []
  for stage, seconds in stages.items():
    together = sum(seconds.values())
    if not together:
      continue
    lost = sorted(((spent, cause) for cause, spent in list(seconds.items())[1:] if spent >= 0.05), reverse=True)
    told = ", ".join(f"{html.escape(cause)} {duration(spent)}" for spent, cause in lost)
    rows.append([html.escape(stage), f"{100 * seconds['steps'] / together:.1f} %", duration(together), told])
  if not rows:
    return []
  header = ["stage", "steps that count", "of", "the rest"]
  return ["<h2>Where the time of all starts went</h2>", static_page.table(header, rows)]


def duration(seconds: float | int) -> str:
  """1:02:03, 2:03 or 4.5 s."""
  if seconds < 60:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _plot(name: str, alt: str, width: int) -> str:
  return static_page.plot(f"page/{name}-light.png", f"page/{name}-dark.png", alt, width)
