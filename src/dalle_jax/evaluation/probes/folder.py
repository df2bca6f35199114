"""A suite's folder: the pictures kept of its captions, a line for each, and the page; and the page of all suites.

    index.html                     the page (page.py)
    samples.jsonl                  a line for each picture kept: caption, words, scores, codes, and what made it
    draws.npz                      all that was drawn, to be ranked again (sampling/draws.py)
    NNN-CAPTION/00.png ...         the best first, and sheet.png

What is said of the page's captions is the caller's; draws.npz is written by who drew.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax.evaluation.probes import page
from dalle_jax.evaluation.probes.catalogue import SUITES
from dalle_jax.evaluation.probes.suite import Caption, Suite
from dalle_jax.sampling import gallery
from dalle_jax.sampling.drawer import Drawn


def write(
  out: Path,
  suite: Suite,
  captions: Sequence[Caption],
  drawn: Iterable[Drawn],
  *,
  seed: int,
  about: Mapping[str, Any],
  warnings: Sequence[str],
) -> None:
  """The pictures as they come, a line for each, and at the end the page; those of an earlier call go, draws.npz stays.

  about: what made them, on the page and in every line; warnings: what the page's reader should know.
  """
  shown: list[page.Shown] = []
  fine = False
  for each in drawn:
    if not shown:
      out.mkdir(parents=True, exist_ok=True)
      gallery.remove_earlier(out)
      (out / "index.html").unlink(missing_ok=True)  # it would show pictures that are no longer there
      (out / "samples.jsonl").write_text("")
    caption = captions[each.caption]
    group = [
      gallery.Sample(
        caption=caption.text,
        caption_number=each.caption,
        sample=int(number),
        seed=seed,
        codes_N=each.codes_NP[number],
        score=None if each.scores_N is None else float(each.scores_N[number]),
        scores={name: float(scores_N[number]) for name, scores_N in each.by_ranker.items()},
        image_HWC=image_HWC,
      )
      for number, image_HWC in zip(each.kept_K, each.images_KHWC)
    ]
    folder = f"{each.caption:03d}-{gallery.slug(caption.text)}"
    files = [f"{folder}/{i:02d}.png" for i in range(len(group))]
    chosen = {name: word.text for name, word in caption.chosen.items()}
    with (out / "samples.jsonl").open("a") as lines:
      for sample, file in zip(group, files):
        lines.write(json.dumps(gallery.row(sample, file, dict(about)) | {"words": chosen}) + "\n")
    for sample, file in zip(group, files):
      gallery.save_picture(sample.image_HWC, out / file)
    labels = [gallery.label(sample) for sample in group]
    gallery.contact_sheet([sample.image_HWC for sample in group], labels).save(out / folder / "sheet.png")
    shown.append(page.Shown(caption=caption, pictures=tuple(zip(files, labels)), sheet=f"{folder}/sheet.png"))
    fine = group[0].image_HWC.shape[0] >= 128
  page.write(out, suite, shown, about=about, warnings=warnings, fine=fine)


def write_overview(out: Path, experiment: str) -> Path:
  """A page of all suites that are in `out`, whichever call drew them."""
  firsts = {}
  for suite in SUITES:
    if not (out / suite.name / "index.html").is_file():
      continue
    try:
      rows = [json.loads(line) for line in (out / suite.name / "samples.jsonl").read_text().splitlines()]
      firsts[suite] = (f"{suite.name}/{rows[0]['file']}", len({row["caption_number"] for row in rows}))
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):  # a page that is not ours
      continue
  return page.write_overview(out, firsts, f"Drawn by {experiment}.")
