"""The results of packs below a directory on one page: DIR/report.html, with plots, and DIR/report.md, an index."""

import html
import json
from pathlib import Path

from dalle_jax import places
from dalle_jax.ablations import table as tables
from dalle_jax.ablations.table import Table
from dalle_jax.errors import StorageError, UserError
from dalle_jax.sampling import static_page

PAGE, INDEX = "report.html", "report.md"
MARK = {"agrees": "right", "disagrees": "wrong"}
WIDTH = 640  # pixels of a plot


def report(directory: Path) -> tuple[Path, Path]:
  """Writes both files and returns them.

  Raises UserError where there is no table below the directory or one is damaged, StorageError where it can't be
  written.
  """
  found = gather(directory)
  try:
    places.write(directory / PAGE, page(found, directory).encode())
    places.write(directory / INDEX, index(found, directory).encode())
  except OSError as error:
    raise StorageError(f"cannot write to {directory} ({error.strerror})") from error
  return directory / PAGE, directory / INDEX


def gather(directory: Path) -> list[tuple[Path, Table]]:
  """Every pack's folder and table, by group and name."""
  if not directory.is_dir():
    raise UserError(f"no directory {directory}: name the --out of `dalle ablate`")
  found = []
  for file in sorted(directory.rglob("table.json")):
    try:
      table = json.loads(file.read_text())
      found.append(((table["group"], table["pack"], str(file)), file.parent, table))
      alone = [(file.parent, table)]
      index(alone, directory), page(alone, directory)  # so that what it lacks is told of this file
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(f"{file} is damaged or no table of `dalle ablate`: make it again with --part tables") from error
  if not found:
    raise UserError(f"no table.json below {directory}: run `dalle ablate PACK --out {directory}` first")
  return [(folder, table) for _, folder, table in sorted(found, key=lambda each: each[0])]


def index(found: list[tuple[Path, Table]], directory: Path) -> str:
  """One line a claim beside what the paper says, in Markdown."""
  head = ["group", "pack", "the paper", "claim", "verdict", "better by", "of", "scale, seeds"]
  lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
  for folder, table in found:
    link = f"[{table['title']}]({(folder / 'table.md').relative_to(directory).as_posix()})"
    unit = f"{table['metric']['name']}, {table['metric']['unit']}"
    for each in table["verdicts"]:
      row = [table["group"], link, table["paper"]["says"], each["claim"], f"**{each['verdict']}**"]
      row += [tables.interval(each["difference"]), unit, f"{table['scale']}, {len(table['seeds'])}"]
      lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |")
  return "\n".join(lines) + "\n"


def page(found: list[tuple[Path, Table]], directory: Path) -> str:
  """The whole page."""
  rows = [
    [
      html.escape(table["group"]),
      f'<a href="#{html.escape(_anchor(folder, directory))}">{html.escape(table["title"])}</a>',
      html.escape(each["claim"]),
      _verdict(each["verdict"]),
    ]
    for folder, table in found
    for each in table["verdicts"]
  ]
  lead = f'<p class="lead">{len(rows)} claims of {len(found)} packs, judged by differences over seeds.</p>'
  head = static_page.table(["group", "pack", "claim", "verdict"], rows)
  return static_page.page("Ablations", [lead, head, *(_section(folder, table, directory) for folder, table in found)])


def _section(folder: Path, table: Table, directory: Path) -> str:
  paper, metric = table["paper"], table["metric"]
  said = f"{paper['says']} ({paper['where']}; {paper['numbers'] or 'a statement, no number'})"
  seeds = ", ".join(map(str, table["seeds"]))
  note = f"Scale {table['scale']}, seeds {seeds}; a difference of {metric['smallest']:g} {metric['unit']} would matter."
  control = f"The control is {'' if table['control']['detected'] else 'not '}told apart."
  parts = [
    f'<h2 id="{html.escape(_anchor(folder, directory))}">{html.escape(table["title"])}</h2>',
    f"<p>{html.escape(said)}</p>",
    _verdicts(table),
    _plot(folder, table, directory),
    _arms(table),
    f'<p class="note">{html.escape(f"{note} {control}")}</p>',
    *(f'<p class="note">{html.escape(line.removeprefix("- ").replace("`", ""))}</p>' for line in tables.notes(table)),
  ]
  return "\n".join(parts)


def _verdicts(table: Table) -> str:
  rows = [
    [
      html.escape(each["claim"]),
      _verdict(each["verdict"]),
      html.escape(tables.interval(each["difference"])),
      html.escape(each["why"]),
    ]
    for each in table["verdicts"]
  ]
  return static_page.table(["claim", "verdict", "better by", "because"], rows)


def _arms(table: Table) -> str:
  metrics = [table["metric"], *table["also"]]
  head = ["arm", *(html.escape(f"{each['name']}, {each['unit']}") for each in metrics)]
  rows = [
    [html.escape(row["arm"]), *(html.escape(tables.interval(row["figures"][each["name"]])) for each in metrics)]
    for row in table["arms"]
  ]
  return static_page.table(head, rows, reference=[row["arm"] == table["control"]["arm"] for row in table["arms"]])


def _plot(folder: Path, table: Table, directory: Path) -> str:
  """The arms' figures, and what else a pack has drawn of its runs."""
  light, dark = ((folder / f"plot-{paper}.png").relative_to(directory).as_posix() for paper in ("light", "dark"))
  own = [file for file in sorted(folder.glob("*.png")) if not file.name.startswith("plot-")]
  drawn = [(light, dark, f"{table['title']}: every arm at every seed")]
  drawn += [(file.relative_to(directory).as_posix(),) * 2 + (file.stem.replace("_", " "),) for file in own]
  return "\n".join(static_page.plot(*each, WIDTH) for each in drawn)


def _verdict(text: str) -> str:
  return f'<b class="{MARK.get(text, "")}">{html.escape(text)}</b>'


def _anchor(folder: Path, directory: Path) -> str:
  return folder.relative_to(directory).as_posix().replace("/", "-")
