"""Static HTML: one file with its style in it, no script, nothing from the network; links are relative to it."""

import html
from collections.abc import Sequence
from typing import Any

VISIBLE = 128  # pixels a side below which a picture is shown enlarged

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8888; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p.note, figcaption { color: color-mix(in srgb, currentColor 65%, transparent); font-size: .88rem; }
p.note { margin: .2rem 0 .8rem; max-width: 48rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; }
figure { margin: 0; }
img { image-rendering: pixelated; border-radius: 3px; }
img.plot { image-rendering: auto; max-width: 100%; background: white; border: 1px solid var(--line); }
figcaption { text-align: center; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1.1rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; }
small { color: color-mix(in srgb, currentColor 60%, transparent); }
.right { color: #18883a; } .wrong { color: #c22f2f; }
"""


def page(title: str, sections: Sequence[str]) -> str:
  """A whole page with its style in it."""
  name = html.escape(title)
  return (
    f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{name}</title>\n'
    f"<style>{STYLE}</style>\n<h1>{name}</h1>\n" + "\n".join(sections) + "\n</html>\n"
  )


def figure(file: str, caption_html: str, *, width: int = VISIBLE) -> str:
  """A picture with what is under it (HTML) as an HTML figure, drawn `width` pixels wide."""
  return (
    f'<figure><a href="{html.escape(file)}"><img src="{html.escape(file)}" width="{width}" alt=""></a>'
    f"<figcaption>{caption_html}</figcaption></figure>"
  )


def definition_list(items: dict[str, Any]) -> str:
  """Names and values as a small table."""
  rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in items.items())
  return f"<table>{rows}</table>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table of texts, already HTML; columns after the first stand to the right where all of them are numbers."""
  numeric = [i > 0 and all(row[i][:1].isdigit() or row[i][:1] in "-−" for row in rows) for i in range(len(head))]
  mark = [' class="number"' if right else "" for right in numeric]
  top = "".join(f"<th{m}>{text}</th>" for m, text in zip(mark, head))
  body = "".join("<tr>" + "".join(f"<td{m}>{text}</td>" for m, text in zip(mark, row)) + "</tr>\n" for row in rows)
  return f"<table>\n<tr>{top}</tr>\n{body}</table>"
