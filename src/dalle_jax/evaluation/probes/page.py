"""A suite's page: the caption with words to pick, and the pictures of each choice that was drawn.

    index.html      the style, what was drawn as JSON, and page.js, all in it; nothing from the network
    NNN-CAPTION/    its pictures

A slot offers the words of captions that were drawn, and no others. Without a script there is a list of sheets.
"""

import dataclasses
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle_jax.evaluation.probes.suite import Caption, ImagePrompt, Suite, Word
from dalle_jax.sampling import static_page

WORDING = "wording"  # the slot that a suite of several templates has besides
STYLE = """
h1 { font-size: clamp(1.4rem, 7.6vw, 2rem); overflow-wrap: anywhere; }
.caption { font-size: clamp(1.25rem, 1rem + 1.4vw, 1.75rem); line-height: 1.6; max-width: 60rem; margin: 1.6rem 0 .4rem;
  letter-spacing: -.01em; text-wrap: pretty; }
.word { font: inherit; letter-spacing: inherit; color: var(--hue); background: none; border: 0; padding: 0;
  text-decoration: underline 2px; text-underline-offset: .22em; border-radius: 3px;
  white-space: normal; text-align: start; }
span.word { text-decoration: none; }
button.word { cursor: pointer; } button.word:hover { background: color-mix(in srgb, var(--hue) 14%, transparent); }
:focus-visible, input:focus-visible + span { outline: 2px solid var(--hue, var(--accent)); outline-offset: 3px; }
.slot { border: 0; margin: .55rem 0 0 -4px; padding: 4px; min-width: 0; display: flex; flex-wrap: wrap; gap: .4rem;
  max-height: 15rem; overflow-y: auto; }
.slot[hidden] { display: none; }
.slot legend { color: var(--soft); font-size: .83rem; font-weight: 600; padding: 0 0 .2rem; }
.slot label { position: relative; cursor: pointer; }
.slot input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
.slot span { display: block; padding: .32rem .8rem; border: 1px solid var(--line); border-radius: 1.2rem;
  background: var(--card); line-height: 1.4; overflow-wrap: anywhere; }
.slot label:hover span { border-color: var(--hue); }
.slot .moves span { color: var(--soft); background: none; border-style: dashed; }
.slot input:checked + span { color: var(--paper); background: var(--hue); border: 1px solid var(--hue); }
.ours { text-decoration: underline dotted; text-decoration-thickness: 1px; text-underline-offset: 4px; }
.choice { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(8.6rem, 30%), 1fr)); gap: .8rem .7rem;
  margin: 1.8rem 0 .6rem; }
.choice img { width: 100%; height: auto; aspect-ratio: 1; }
.fine img { image-rendering: auto; }
.warning { border-left: 3px solid var(--wrong); padding-left: .8rem; }
.suites { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 45%), 1fr)); gap: 1rem; }
.suites a { color: inherit; text-decoration: none; font-weight: 600; overflow-wrap: anywhere; }
.suites a:hover { color: var(--accent); }
.suites img { width: 100%; height: auto; aspect-ratio: 1; margin-bottom: .5rem; }
.suites small { display: block; font-weight: 400; }
"""
HUES = (
  ("#2458c6", "#7fa7ff"),
  ("#a23b72", "#f08cc0"),
  ("#18794e", "#5cc98f"),
  ("#8f5400", "#e9b25a"),
  ("#6b46c1", "#b79bf5"),
  ("#b3261e", "#ff8f85"),
)
STYLE += "".join(f".hue-{i} {{ --hue: light-dark({light}, {dark}); }}\n" for i, (light, dark) in enumerate(HUES))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
  """A caption that was drawn: its pictures' files beside the page, with what stands under each, and all on a sheet."""

  caption: Caption
  pictures: tuple[tuple[str, str], ...]
  sheet: str


def write(
  out: Path, suite: Suite, shown: Sequence[Shown], *, about: Mapping[str, Any], warnings: Sequence[str], fine: bool
) -> Path:
  """Writes out/index.html and returns it. fine: whether pictures are large enough to be scaled smoothly."""
  drawn = "\n".join(
    f'<li><a href="{html.escape(each.sheet)}">{html.escape(each.caption.text)}</a></li>' for each in shown
  )
  sections = [
    f'<p class="lead">{html.escape(_title(suite.category.value))}, from the blog of January 2021.</p>',
    *([f'<p class="note">What it says of DALL·E: {html.escape(suite.note)}</p>'] if suite.note else []),
    *(f'<p class="warning">{html.escape(_title(line))}.</p>' for line in warnings),
    '<p id="caption" class="caption" aria-live="polite"></p>',
    '<p id="ours" class="note" hidden>This wording is ours.</p>',
    '<div id="slots"></div>',
    f'<div id="pictures" class="choice{" fine" if fine else ""}"></div>',
    '<p class="note"><a id="sheet">all on one sheet</a> · <a href="../index.html">the other suites</a></p>',
    f'<p class="note">{html.escape(_legend(suite, shown))}</p>',
    f"<details><summary>The {len(shown)} captions that were drawn, of {len(suite)}</summary><ul>{drawn}</ul></details>",
    f"<h2>How they were drawn</h2>{static_page.definition_list(dict(about))}",
    f'<script type="application/json" id="drawn">{_json(choices(suite, shown))}</script>',
    f"<script>\n{Path(__file__).with_name('page.js').read_text()}</script>",
  ]
  page = out / "index.html"
  page.write_text(static_page.page(_title(suite.name.replace("_", " ")), sections, style=STYLE))
  return page


def choices(suite: Suite, shown: Sequence[Shown]) -> dict[str, Any]:
  """What the page's script reads: the slots with the words that were drawn, and the captions with their pictures."""
  several = len({each.caption.template for each in shown}) > 1
  chosen = [_words(each.caption, several) for each in shown]
  order: dict[str, dict[str, Word]] = {WORDING: {}} if several else {}
  for template in suite.templates:
    for slot in template.slots:
      order.setdefault(slot.name, {}).update({word.text: word for word in slot.words})
  if several:
    order[WORDING] = {each.text: each for words in chosen if (each := words[WORDING])}
  offered = {name: {words[name].text for words in chosen if name in words} for name in order}
  return {
    "slots": [
      {"name": name, "words": [{"text": w.text, "ours": w.ours} for w in words.values() if w.text in offered[name]]}
      for name, words in order.items()
      if offered[name]
    ],
    "captions": [
      {
        "words": {name: word.text for name, word in words.items()},
        "parts": [[part.text, part.slot] for part in each.caption.parts()],
        "ours": each.caption.template.ours,
        "pictures": each.pictures,
        "sheet": each.sheet,
      }
      for each, words in zip(shown, chosen)
    ],
  }


def write_overview(out: Path, firsts: Mapping[Suite, tuple[str, int]], about: str) -> Path:
  """Writes out/index.html, which leads to the suites' pages, and returns it.

  firsts: of each suite that was drawn a picture, from `out`, and how many captions of it were drawn.
  """
  sections = [f'<p class="lead">{html.escape(about)}</p>']
  for category in dict.fromkeys(suite.category for suite in firsts):
    cards = "".join(_card(each, *first) for each, first in firsts.items() if each.category is category)
    sections.append(f'<h2>{html.escape(_title(category.value))}</h2><div class="suites">{cards}</div>')
  page = out / "index.html"
  page.write_text(static_page.page("What it draws of the blog's captions", sections, style=STYLE))
  return page


def _card(suite: Suite, picture: str, drawn: int) -> str:
  name = html.escape(suite.name.replace("_", " "))
  return (
    f'<div class="card"><a href="{suite.name}/index.html"><img src="{html.escape(picture)}" alt="">{name}</a>'
    f"<small>{drawn} of {len(suite)} captions</small></div>"
  )


def _words(caption: Caption, several: bool) -> dict[str, Word]:
  template = caption.template
  wording = {WORDING: Word(text=re.sub(r"{.*?}", "…", template.text), ours=template.ours)} if several else {}
  return wording | caption.chosen


def _legend(suite: Suite, shown: Sequence[Shown]) -> str:
  lines = ["Pick words in the caption or below it. Dashed: words that were drawn with other ones in the other places."]
  if any(word.ours for each in shown for word in each.caption.words) or any(
    each.caption.template.ours for each in shown
  ):
    lines.append("Dotted: ours, where the blog's description says only how many there are, or what they are about.")
  if isinstance(suite.image_prompt, ImagePrompt):
    said = "the paper's" if suite.image_prompt.stated else "ours: the blog does not say how many"
    lines.append(
      f"Given from a picture is what shows {suite.image_prompt.shows}; {suite.image_prompt.rows} rows of 32 are {said}."
    )
  return " ".join(lines)


def _title(text: str) -> str:
  return text[:1].upper() + text[1:]


def _json(value: Any) -> str:
  """JSON that does not end the script it is in."""
  return json.dumps(value).replace("<", "\\u003c")
