"""The paper's form for people (appendix F, figure 7): of two pictures of a caption, which is realistic, which fits?

    OUT/form/worker-1.html ... worker-5.html    a page for each person, in an order of its own; nothing from the network
    OUT/form/pictures/                          0000-x.png and 0000-y.png of each caption
    OUT/key.json                                whose pictures x and y are: not for those who answer

Which of the two stands left, and in which order the captions come, is drawn for each person; whose picture is called x
is drawn for each caption. A page downloads its answers as JSON, which `human_score` reads.

P captions, H W pixels.
"""

import dataclasses
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalle_jax.errors import UserError
from dalle_jax.sampling import static_page
from dalle_jax.sampling.gallery import save_picture

KIND, VERSION = "pairs for people", 1
KEY, FORM = "key.json", "form"
PICTURES = ("x", "y")
NEITHER = "neither"
STYLE = """
body { max-width: 62rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; max-width: 44rem; margin: 1rem 0 1.4rem; }
.pair img { width: 100%; height: auto; aspect-ratio: 1; object-fit: contain; }
.fine img { image-rendering: auto; }
.pair figcaption { font-size: 1rem; }
.caption { font-size: 1.4rem; line-height: 1.4; max-width: 44rem; overflow-wrap: anywhere; min-height: 2.8em; }
fieldset { border: 1px solid var(--line); border-radius: 8px; margin: 0 0 1rem; padding: .6rem 1rem; max-width: 44rem; }
legend { font-weight: 600; padding: 0 .4rem; }
fieldset label { margin-right: 1.6rem; cursor: pointer; white-space: nowrap; }
button { font: inherit; padding: .45rem 1.2rem; border-radius: 6px; border: 1px solid var(--accent); cursor: pointer;
  background: var(--accent); color: var(--paper); margin-right: .6rem; }
button.quiet { background: none; color: var(--accent); } button:disabled { opacity: .4; cursor: default; }
[hidden] { display: none !important; }
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
  """What is asked of each pair; neither: whether that may be the answer."""

  name: str
  text: str
  neither: bool

  @property
  def answers(self) -> tuple[str, ...]:
    """Of a picture its letter."""
    return (*PICTURES, NEITHER) if self.neither else PICTURES


QUESTIONS = (
  Question(name="realistic", text="Which picture looks more like a real one?", neither=False),
  Question(name="matches", text="Which picture shows better what the words say?", neither=True),
)


def write(
  out: Path,
  captions: Sequence[str],
  pictures: Sequence[Sequence[np.ndarray]],
  *,
  names: tuple[str, str],
  workers: int = 5,
  seed: int = 0,
) -> None:
  """Writes the pages, the pictures and the key into `out`. pictures: uint8[H, W, 3] of the first source, and of the
  second, one of each caption, of any size.

  names: of the sources, in the key alone. The same seed draws the same order. Raises UserError as `check_names`.
  """
  check_names(names)
  rng = np.random.default_rng([seed, len(captions)])
  first_is_x = (rng.random(len(captions)) < 0.5).tolist()
  pairs = []
  for number, (caption, x_first) in enumerate(zip(captions, first_is_x)):
    own = {"x": 0 if x_first else 1, "y": 1 if x_first else 0}
    for letter, source in own.items():
      save_picture(pictures[source][number], out / FORM / file_of(number, letter))
    pairs.append({"caption": caption} | {letter: names[source] for letter, source in own.items()})
  key = {"kind": KIND, "version": VERSION, "names": list(names), "workers": workers, "seed": seed, "pairs": pairs}
  key["sheet"] = _sheet_id(out, key)
  (out / KEY).write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
  fine = min(min(each.shape[:2]) for source in pictures for each in source) >= static_page.VISIBLE
  for worker in range(1, workers + 1):
    order = np.random.default_rng([seed, len(captions), worker])
    shown = [
      {"pair": int(number), "caption": captions[number], "left": PICTURES[int(order.random() < 0.5)]}
      for number in order.permutation(len(captions))
    ]
    (out / FORM / f"worker-{worker}.html").write_text(_page(key["sheet"], worker, shown, fine), encoding="utf-8")


def check_names(names: tuple[str, str]) -> None:
  """Raises UserError where the names of the two sources are one, or could be taken for an answer."""
  if names[0] == names[1] or NEITHER in names:
    raise UserError(f"got the names {names[0]} and {names[1]}, wanted two of their own for what is compared")


def file_of(pair: int, letter: str) -> str:
  """A picture's file, from the pages' folder."""
  return f"pictures/{pair:04d}-{letter}.png"


def _sheet_id(out: Path, key: dict[str, Any]) -> str:
  """A name for this sheet and no other: of what is asked, and of the pictures' bytes."""
  sha = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
  for number in range(len(key["pairs"])):
    for letter in PICTURES:
      sha.update((out / FORM / file_of(number, letter)).read_bytes())
  return sha.hexdigest()[:16]


def _page(sheet: str, worker: int, shown: list[dict[str, Any]], fine: bool) -> str:
  """fine: whether all pictures are large enough to be scaled smoothly."""
  pairs = [
    each
    | {side: file_of(each["pair"], letter) for side, letter in zip(("leftFile", "rightFile"), _sides(each["left"]))}
    for each in shown
  ]
  questions = [{"name": each.name, "text": each.text, "neither": each.neither} for each in QUESTIONS]
  data = {"sheet": sheet, "worker": worker, "pairs": pairs, "questions": questions}
  sections = [
    '<p class="lead">You see two pictures of the same words, one pair after the other. Answer both questions by what '
    "you see; there is no right answer that we know of. Take the time that you need.</p>",
    '<noscript><p class="note">This form needs JavaScript, which runs in this page alone.</p></noscript>',
    '<p id="place" class="note" aria-live="polite"></p>',
    '<form id="form"><p id="caption" class="caption"></p>',
    f'<div class="pair{" fine" if fine else ""}">',
    *(f'<figure><img id="{side}" alt="{side} picture"><figcaption>{side}</figcaption></figure>' for side in SIDES),
    "</div>",
    *(_asked(each) for each in QUESTIONS),
    '<button id="back" type="button" class="quiet">Back</button><button id="next" type="submit">Next</button></form>',
    '<p id="end" class="lead" hidden>All pairs are answered. Save the answers, and send the file back.</p>',
    '<p><button id="save" type="button" class="quiet">Save the answers</button></p>',
    '<p class="note">Answers stay in this browser until you save them as a file. Nothing is sent anywhere.</p>',
    f'<script type="application/json" id="sheet">{json.dumps(data).replace("<", chr(92) + "u003c")}</script>',
    f"<script>\n{Path(__file__).with_name('human_sheet.js').read_text()}</script>",
  ]
  return static_page.page(f"Pairs of pictures, form {worker}", sections, style=STYLE)


SIDES = ("left", "right")


def _sides(left: str) -> tuple[str, str]:
  return (left, PICTURES[1 - PICTURES.index(left)])


def _asked(question: Question) -> str:
  answers = (*SIDES, NEITHER) if question.neither else SIDES
  radios = "".join(
    f'<label><input type="radio" name="{question.name}" value="{each}" required> {each}</label>' for each in answers
  )
  return f"<fieldset><legend>{html.escape(question.text)}</legend>{radios}</fieldset>"
