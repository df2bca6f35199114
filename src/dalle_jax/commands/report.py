"""`dalle report DIR`: the results of packs of ablations on one page."""

from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle report DIR

Gathers the tables that `dalle ablate` wrote below DIR: DIR/report.html, with plots, and DIR/report.md, an index.
"""


def run(argv: list[str]) -> int:
  """Writes the page, prints where it is. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  if len(argv) > 1 or argv[0].startswith("-"):
    raise UserError(f"got {' '.join(argv)[:80]}, wanted one directory: dalle report DIR")
  if not Path(argv[0]).is_dir():
    raise UserError(f"no directory {argv[0]}: name the --out of `dalle ablate`")
  from dalle_jax import report

  page, index = report.report(Path(argv[0]))
  print(index.read_text())
  print(page)
  return 0
