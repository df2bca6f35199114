"""The page of `dalle data inspect`: example pictures with their captions, caption lengths, and what was left out.

One file: its pictures stand in it. H W pixels, C captions.
"""

import base64
import html
import io
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from dalle_jax.data import inspection, prepare_report
from dalle_jax.data.inspection import Inspection
from dalle_jax.data.prepared import Prepared
from dalle_jax.errors import UserError
from dalle_jax.sampling import static_page

LARGEST = 256  # pixels a side of a picture in the page
BARS = 48

STYLE = """<style>
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 1.2rem 1rem; }
.examples img { width: 128px; height: auto; } .examples img.large { image-rendering: auto; }
.examples figcaption { text-align: left; margin-top: .35rem; overflow-wrap: anywhere; }
svg { max-width: 46rem; width: 100%; height: auto; }
svg rect { fill: var(--accent); } svg rect.cut { fill: var(--wrong); }
svg text { fill: var(--soft); font-size: 11px; }
</style>"""


def write(file: Path, found: Inspection, examples: int) -> Path:
  """Writes the page, with `examples` pictures of each split. Raises UserError when the file can't be written."""
  report = found.report
  facts = dict(line.strip().split("  ", 1) for line in prepare_report.as_text(report).splitlines()[1:])
  counts = {f"split {split}": f"{count:,} pictures" for split, count in report.splits.items()}
  sections = [STYLE, static_page.definition_list(counts | {k: v.strip() for k, v in facts.items()})]
  sections.append(f"<h2>Tokens a caption</h2>\n<p>{html.escape(inspection.tokens_text(found.tokens))}</p>")
  if found.tokens:
    sections.append(histogram(found.tokens.lengths_C, found.tokens.limit))
  if report.dropped:
    sections.append(f"<h2>Left out</h2>\n{_left_out(found)}")
  for split in found.prepared.splits:
    sections.append(f"<h2>{html.escape(split)}</h2>\n{_examples(found.prepared, split, examples)}")
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(static_page.page(report.name, sections), encoding="utf-8")
  except OSError as error:
    raise UserError(f"cannot write the page {file}: {error.strerror}; name another with --out") from error
  return file


def histogram(lengths_C: Int[np.ndarray, " C"], limit: int) -> str:
  """An SVG of how many captions have how many tokens; bars beyond `limit` are of another colour."""
  width = max(1, -(-int(lengths_C.max() + 1) // BARS))
  counts = np.bincount(lengths_C // width)
  bars = []
  for i, count in enumerate(counts):
    height = 100 * count / counts.max()
    mark = ' class="cut"' if (i + 1) * width - 1 > limit else ""
    title = f"{i * width} to {(i + 1) * width - 1} tokens: {count:,} captions"
    place = f'x="{i * 12 + 1}" y="{104 - height:.1f}" width="10" height="{height:.1f}"'
    bars.append(f"<rect{mark} {place}><title>{title}</title></rect>")
  labels = [f'<text x="{i * 12}" y="120">{i * width}</text>' for i in range(0, len(counts), 8)]
  return f'<svg viewBox="0 0 {len(counts) * 12 + 24} 126" role="img">{"".join(bars)}{"".join(labels)}</svg>'


def data_uri(image_HWC: UInt8[np.ndarray, "H W 3"]) -> str:
  """The picture, shrunk to LARGEST pixels a side if it is larger, as the address of an <img>."""
  picture = Image.fromarray(image_HWC)
  picture.thumbnail((LARGEST, LARGEST))
  file = io.BytesIO()
  picture.save(file, "PNG")
  return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _examples(prepared: Prepared, split: str, number: int) -> str:
  source = prepared.source(split)
  indices = np.linspace(0, len(source) - 1, min(number, len(source))).astype(int)
  figures = []
  for example in (source[int(index)] for index in indices):
    image_HWC = example["image"]
    mark = ' class="large"' if max(image_HWC.shape) > static_page.VISIBLE else ""
    captions = "<br>".join(html.escape(caption[:300]) for caption in example["captions"])
    figures.append(
      f'<figure><img{mark} src="{data_uri(image_HWC)}" alt="{html.escape(example["captions"][0][:300])}">'
      f"<figcaption>{captions}</figcaption></figure>"
    )
  return f'<div class="examples">{"".join(figures)}</div>'


def _left_out(found: Inspection) -> str:
  rows = []
  for reason, count in found.report.dropped.items():
    some = [f"{each.key} ({each.detail})" if each.detail else each.key for each in found.dropped.get(reason, [])]
    rows.append((html.escape(reason), f"{count:,}", f"<span>{html.escape('; '.join(some))}</span>"))
  return static_page.table(("why", "how many", "for example"), rows)
