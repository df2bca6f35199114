"""OUT/index.html: the tables, then every matrix as it was given, as it was completed, and as it should be.

S S pixels.
"""

import html
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle_jax.errors import UserError
from dalle_jax.evaluation.raven import table
from dalle_jax.evaluation.raven.judge import CLOSE
from dalle_jax.evaluation.raven.protocol import Outcome
from dalle_jax.sampling import static_page
from dalle_jax.sampling.gallery import save_picture

WIDE = 144
OURS = re.compile(r"\d{3}-(given|completed|true)\.png")
SETS = {
  "B": "Set B: the same, turned, reflected",
  "C": "Set C: progression and addition",
  "D": "Set D: permutation",
  "E": "Set E: and, or, exclusive or",
}


def write(
  out: Path, outcomes: Sequence[Outcome], *, title: str, about: Mapping[str, Any], trained: Collection[str] | None
) -> Path:
  """Writes raven.json, table.txt, pictures/ and the page under `out`, and returns the page's path.

  about: what made them, on the page and in the JSON; trained: kinds of rule in the training data, None if not known.
  Pictures that an earlier call wrote there are removed. Raises UserError if `out` can't be written.
  """
  sets, kinds = table.by_set(outcomes, trained), table.by_kind(outcomes, trained)
  try:
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for file in pictures.iterdir():
      if OURS.fullmatch(file.name):
        file.unlink()
    sections = [_lead(), _table(sets), "<h3>By kind of rule</h3>", _table(kinds), *_matrices(outcomes, trained, out)]
    sections.append("<h2>What made them</h2>" + static_page.definition_list(dict(about)))
    found = dict(about) | table.to_json(outcomes, trained)
    (out / "raven.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "table.txt").write_text(f"{table.as_text(sets)}\n\n{table.as_text(kinds)}\n")
    page = out / "index.html"
    page.write_text(static_page.page(title, sections))
  except OSError as error:
    raise UserError(f"cannot write the probe to {out}: {error.strerror or error}") from error
  return page


def _lead() -> str:
  return (
    '<p class="lead">Each matrix lacks its last panel. The transformer draws it, the most likely code each time.</p>\n'
    f'<p class="note">Right: the corner is at most {CLOSE:g} from the true panel, where an empty one is at 1, and '
    "nearer to it than to any other panel that could stand there. The dVAE's ceiling: how often its own reconstruction "
    "of the true corner is judged right. Copying: how often a neighbour's panel is the answer. Guessing: any one of "
    "the panels that could stand there.</p>"
  )


def _table(rows: Sequence[table.Row]) -> str:
  return static_page.table(list(table.HEAD), [[html.escape(text) for text in table.cells(row)] for row in rows])


def _matrices(outcomes: Sequence[Outcome], trained: Collection[str] | None, out: Path) -> list[str]:
  sections, letter = [], ""
  for i, each in sorted(enumerate(outcomes), key=lambda pair: (pair[1].item.rule.letter, pair[0])):
    if each.item.rule.letter != letter:
      sections += ["</div>"] if letter else []
      letter = each.item.rule.letter
      sections.append(f'<h2>{html.escape(SETS[letter])}</h2>\n<div class="figures">')
    sections.append(_matrix(each, i, trained, out))
  return [*sections, "</div>"]


def _matrix(each: Outcome, number: int, trained: Collection[str] | None, out: Path) -> str:
  shown = {
    "given": _asked(each),
    "completed": each.completed_SSC,
    "true": each.item.pixels(),
  }
  files = {name: f"pictures/{number:03d}-{name}.png" for name in shown}
  for name, image_SSC in shown.items():
    save_picture(image_SSC, out / files[name])
  word = "right" if each.verdict.right else "wrong"
  under = {"given": "given", "completed": f"{word} ({each.verdict.distance:.2f})", "true": "true"}
  marks = {"given": "", "completed": f"mark-{word}", "true": "truth"}
  figures = "".join(
    static_page.figure(files[name], under[name], width=WIDE, mark=marks[name], alt=f"{name}: {each.item.rule.kind}")
    for name in shown
  )
  seen = "" if trained is None else (", trained on" if each.item.rule.kind in trained else ", never trained on")
  colours = ", inverted" if each.item.inverted else ""
  name = f"{each.item.rule.kind}{colours}{seen}"
  return f'<div><h3>{html.escape(name)}</h3><div class="pictures">{figures}</div></div>'


def _asked(each: Outcome) -> UInt8[np.ndarray, "S S 3"]:
  """What was given, four times as large, with the corner that is asked for hatched."""
  large_SSC = each.given_SSC.repeat(4, axis=0).repeat(4, axis=1)
  scale = 4 * each.item.layout.image // each.item.layout.grid
  top, left, bottom, right = (scale * edge for edge in each.item.region)
  y_S1, x_1S = np.mgrid[: len(large_SSC), : len(large_SSC)]
  inside_SS = (y_S1 >= top) & (y_S1 < bottom) & (x_1S >= left) & (x_1S < right)
  hatched_SS = inside_SS & ((x_1S + y_S1) % 12 < 3)
  return np.asarray(Image.fromarray(np.where(hatched_SS[:, :, None], np.uint8(150), large_SSC)))
