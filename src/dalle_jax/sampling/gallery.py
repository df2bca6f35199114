"""What was drawn, for people and for programs: PNG pictures, contact sheets, samples.jsonl and one static index.html.

N pictures, H W pixels.
"""

import dataclasses
import html
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from dalle_jax.errors import UserError
from dalle_jax.sampling import static_page
from dalle_jax.sampling.static_page import VISIBLE

MARGIN = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """One kept picture: the caption and sample it is, its codes, what it is ranked by (None if by nothing), its pixels.

  scores: what each ranker said of it.
  """

  caption: str
  caption_number: int
  sample: int
  seed: int
  codes_N: Int[np.ndarray, " N"]
  score: float | None
  image_HWC: UInt8[np.ndarray, "H W 3"]
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)


def enlarge(image_HWC: UInt8[np.ndarray, "H W 3"], least: int = VISIBLE) -> UInt8[np.ndarray, "h w 3"]:
  """The picture, each pixel repeated the fewest times that make it `least` pixels wide."""
  times = max(1, math.ceil(least / image_HWC.shape[1]))
  return image_HWC.repeat(times, axis=0).repeat(times, axis=1)


def contact_sheet(
  images: Sequence[UInt8[np.ndarray, "H W 3"]], labels: Sequence[str], *, columns: int = 8, least: int = VISIBLE
) -> Image.Image:
  """The pictures in rows, each enlarged to `least` pixels, with its label under it (cut to two lines of its width).

  Raises ValueError when there are no pictures or as many labels as pictures are not given.
  """
  if not images or len(images) != len(labels):
    raise ValueError(f"got {len(images)} pictures and {len(labels)} labels, wanted as many of both and at least one")
  tiles = [enlarge(image, least) for image in images]
  font = ImageFont.load_default(size=13)
  lines = [_wrap(label, font, tiles[0].shape[1]) for label in labels]
  height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
  step_x, step_y = width + MARGIN, height + 17 * max(len(each) for each in lines) + MARGIN
  columns = min(columns, len(tiles))
  sheet = Image.new("RGB", (columns * step_x + MARGIN, math.ceil(len(tiles) / columns) * step_y + MARGIN), "white")
  pen = ImageDraw.Draw(sheet)
  for i, (tile, text) in enumerate(zip(tiles, lines)):
    x, y = MARGIN + i % columns * step_x, MARGIN + i // columns * step_y
    sheet.paste(Image.fromarray(tile), (x, y))
    pen.multiline_text((x, y + height + 1), "\n".join(text), fill=(60, 60, 60), font=font, spacing=2)
  return sheet


def save_picture(image_HWC: UInt8[np.ndarray, "H W 3"], file: Path) -> None:
  """The picture as PNG, at its own size, its directory made if need be."""
  file.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image_HWC).save(file)


def write_gallery(
  out: Path,
  samples: Sequence[Sample],
  *,
  title: str,
  about: dict[str, Any],
  attention: Callable[[Sequence[Sample]], Iterator[Image.Image]] | None = None,
) -> Path:
  """Writes what was drawn under `out` and returns its index.html; the samples of a caption come best first.

      out/CAPTION/00.png ...  sheet.png     at the model's own size; all of them enlarged on one sheet
      out/samples.jsonl                     a line each: caption, numbers, seed, codes, scores, file, and `about`
      out/index.html                        no script, nothing from the network

  about: what made them (experiment, digests, sampling), on the page and in every line; attention: makes sheets of maps
  of the samples, in their order, each of which is written as CAPTION/00-attention.png beside it. What an earlier call
  wrote there is removed. Raises UserError if `out` can't be written.
  """
  numbers = sorted({each.caption_number for each in samples})
  groups = {number: [each for each in samples if each.caption_number == number] for number in numbers}
  try:
    out.mkdir(parents=True, exist_ok=True)
    remove_earlier(out)
    sheets = attention([each for group in groups.values() for each in group]) if attention else None
    sections, rows = [], []
    for number, group in groups.items():
      folder = f"{number:03d}-{slug(group[0].caption)}"
      files = [f"{folder}/{i:02d}.png" for i in range(len(group))]
      for each, file in zip(group, files):
        save_picture(each.image_HWC, out / file)
        rows.append(row(each, file, about))
        if sheets is not None:
          next(sheets).save(out / _attention_file(file))
      contact_sheet([each.image_HWC for each in group], [label(each) for each in group]).save(
        out / folder / "sheet.png"
      )
      sections.append(_section(group, files, folder, attention is not None))
    (out / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = out / "index.html"
    page.write_text(static_page.page(title, [static_page.definition_list(about), *sections]))
  except OSError as error:
    raise UserError(f"cannot write pictures to {out}: {error.strerror or error}") from error
  return page


def check_folder(out: Path) -> None:
  """Raises UserError where a file stands in place of a folder."""
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write pictures to {out}: it is a file; take another --out")


def make_folder(out: Path) -> None:
  """Made before any time is spent on what then can't be kept. Raises UserError where it can't be."""
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot write pictures to {out}: {error.strerror or error}") from error


def remove_earlier(out: Path) -> None:
  """The folders that our own samples.jsonl names, and nothing else."""
  listed = out / "samples.jsonl"
  try:
    rows = [json.loads(line) for line in listed.read_text().splitlines()] if listed.is_file() else []
    folders = {Path(row["file"]).parts[0] for row in rows}
  except (ValueError, KeyError, TypeError, IndexError):  # a file of that name that is not ours
    return
  for folder in folders:
    if re.fullmatch(r"\d{3,}-[a-z0-9-]+", folder) and (out / folder).is_dir():
      shutil.rmtree(out / folder)


def slug(caption: str) -> str:
  """Letters and digits of the caption, for a file's name; "picture" if it has none."""
  return re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")[:48].strip("-") or "picture"


def _section(group: list[Sample], files: list[str], folder: str, attention: bool) -> str:
  under = [label(each) for each in group]
  if attention:
    under = [f'{text} <a href="{_attention_file(file)}">attention</a>' for text, file in zip(under, files)]
  figures = "".join(static_page.figure(file, text) for text, file in zip(under, files))
  return (
    f'<h2>{html.escape(group[0].caption)}</h2>\n<div class="pictures">{figures}</div>\n'
    f'<p class="note"><a href="{folder}/sheet.png">all on one sheet</a></p>'
  )


def _attention_file(file: str) -> str:
  return f"{file.removesuffix('.png')}-attention.png"


def label(sample: Sample) -> str:
  """What stands under a picture: its score, or without a ranker its number."""
  return f"sample {sample.sample}" if sample.score is None else f"{sample.score:.3f}"


def row(sample: Sample, file: str, about: dict[str, Any]) -> dict[str, Any]:
  """A line of samples.jsonl."""
  numbers = {k: getattr(sample, k) for k in ("caption", "caption_number", "sample", "seed", "score")}
  return numbers | {"scores": dict(sample.scores), "file": file, "codes": sample.codes_N.tolist(), **about}


def _wrap(text: str, font: Any, width: int) -> list[str]:
  lines = [""]
  for word in text.split():
    longer = f"{lines[-1]} {word}".strip()
    if font.getlength(longer) <= width or not lines[-1]:
      lines[-1] = longer
    else:
      lines.append(word)
  if len(lines) > 2:
    lines = [lines[0], lines[1] + "…"]
  return lines
