"""Static HTML: one file with its style in it, no script, nothing from the network; links are relative to it."""

import html
from collections.abc import Sequence
from typing import Any

VISIBLE = 128  # pixels a side below which a picture is shown enlarged

STYLE = """
:root {
  color-scheme: light dark;
  --paper: light-dark(#fbfaf8, #16171a); --card: light-dark(#fff, #1e2024); --ink: light-dark(#1c1d20, #e9e8e4);
  --soft: light-dark(#66686e, #9b9ca3); --line: light-dark(#e3e1dc, #33353b);
  --right: light-dark(#1d8f4a, #46c27c); --wrong: light-dark(#c8452f, #e8745c); --accent: light-dark(#2458c6, #7fa7ff);
}
* { box-sizing: border-box; }
body {
  font: 16px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  color: var(--ink); background: var(--paper); max-width: 82rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem;
  -webkit-font-smoothing: antialiased; text-rendering: optimizeLegibility;
}
h1 { font-size: 2rem; line-height: 1.15; letter-spacing: -.02em; font-weight: 650; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; line-height: 1.3; letter-spacing: -.01em; font-weight: 620; margin: 3rem 0 .3rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.6rem 0 .4rem; }
a { color: var(--accent); }
p { max-width: 46rem; margin: .3rem 0 1rem; }
p.lead { font-size: 1.1rem; color: var(--soft); margin-bottom: 1.6rem; }
p.note, figcaption, small { color: var(--soft); font-size: .86rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; }
img { display: block; image-rendering: pixelated; border-radius: 4px; background: var(--line); }
img.plot { image-rendering: auto; max-width: 100%; height: auto; background: none; border-radius: 0; }
figcaption { text-align: center; font-variant-numeric: tabular-nums; line-height: 1.3; margin-top: .2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; margin: .6rem 0 1rem; }
th { font-weight: 600; color: var(--soft); font-size: .83rem; vertical-align: bottom; }
th, td { text-align: left; padding: .34rem 1.6rem .34rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; }
td small { white-space: nowrap; }
tr.reference td { color: var(--soft); }
details { margin-top: 1rem; } summary { cursor: pointer; font-weight: 600; }
pre { font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-x: auto; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; padding: 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24.6rem, 100%), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem; }
.card h3 { font-size: 1.02rem; line-height: 1.35; margin: 0 0 .7rem; min-height: 2.7em; overflow-wrap: anywhere; }
.card .drawn { display: grid; grid-template-columns: 128px 1fr; gap: .9rem; align-items: start; }
.card .others { display: grid; grid-template-columns: repeat(4, 48px); gap: .35rem .4rem; }
.card figcaption { font-size: .72rem; }
.mark-right img { box-shadow: 0 3px 0 var(--right); } .mark-wrong img { box-shadow: 0 3px 0 var(--wrong); }
.mark-right figcaption, .mark-wrong figcaption { margin-top: .4rem; }
.truth img { outline: 2px dashed var(--soft); outline-offset: 2px; }
.truth figcaption { margin-top: .4rem; }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem 2.4rem; margin: 1rem 0; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-weight: 620; letter-spacing: -.02em; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
"""


def page(title: str, sections: Sequence[str], *, style: str = "") -> str:
  """A whole page with its style in it, and more of it where a page has its own."""
  name = html.escape(title)
  return (
    f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{name}</title>\n'
    f"<style>{STYLE}{style}</style>\n<h1>{name}</h1>\n" + "\n".join(sections) + "\n</html>\n"
  )


def figure(file: str, caption_html: str, *, width: int = VISIBLE, mark: str = "", alt: str = "") -> str:
  """A picture with what is under it (HTML) as an HTML figure, drawn `width` pixels wide; mark: its CSS class."""
  name = f' class="{mark}"' if mark else ""
  return (
    f'<figure{name}><a href="{html.escape(file)}"><img src="{html.escape(file)}" width="{width}" height="{width}" '
    f'alt="{html.escape(alt)}"></a><figcaption>{caption_html}</figcaption></figure>'
  )


def plot(light: str, dark: str, alt: str, width: int) -> str:
  """A plot that follows the reader's choice of light or dark."""
  return (
    f'<picture><source srcset="{html.escape(dark)}" media="(prefers-color-scheme: dark)">'
    f'<img class="plot" src="{html.escape(light)}" width="{width}" alt="{html.escape(alt)}"></picture>'
  )


def definition_list(items: dict[str, Any]) -> str:
  """Names and values as a small table."""
  rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in items.items())
  return f"<table>{rows}</table>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, reference: Sequence[bool] = ()) -> str:
  """A table of texts, already HTML; columns after the first stand to the right where all of them are numbers.

  reference: which rows are only there to compare with; they are set softer.
  """
  numeric = [i > 0 and all(row[i][:1].isdigit() or row[i][:1] in "-−–" for row in rows) for i in range(len(head))]
  mark = [' class="number"' if right else "" for right in numeric]
  top = "".join(f"<th{m}>{text}</th>" for m, text in zip(mark, head))
  kinds = [' class="reference"' if soft else "" for soft in (*reference, *[False] * (len(rows) - len(reference)))]
  cells = ["".join(f"<td{m}>{text}</td>" for m, text in zip(mark, row)) for row in rows]
  body = "".join(f"<tr{kind}>{line}</tr>\n" for kind, line in zip(kinds, cells))
  return f'<div class="scroll"><table>\n<tr>{top}</tr>\n{body}</table></div>'
