"""`dalle probe WORKDIR raven`: which of Raven's matrices a run completes."""

import dataclasses
import sys
from pathlib import Path

from dalle_jax.commands.mesh_flags import Devices
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle probe WORKDIR raven [--items 12] [--seed 0] [--out DIR] [--batch 64]
                               [--mesh.data -1 --mesh.fsdp 1 --mesh.model 1]

Asks --items matrices of each of the sets B to E, and the same ones with colours inverted: the last panel is drawn by
argmax, and judged by its pixels. Prints a table, and writes it with a page of all matrices to WORKDIR/raven.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Asks a run to complete Raven's matrices."""

  items: int = 12
  """Matrices of each set; as many again are asked with colours inverted."""
  seed: int = 0
  """The same seed asks the same matrices."""
  out: Path | None = None
  """Where to write; WORKDIR/raven if not said."""
  batch: int = 64
  """Matrices completed at the same time."""
  mesh: Devices = Devices()
  """Devices that complete them."""

  def __post_init__(self) -> None:
    for name in ("items", "batch"):
      if getattr(self, name) < 1:
        raise UserError(f"got --{name} {getattr(self, name)}, wanted at least 1")


def run(argv: list[str]) -> int:
  """Parses WORKDIR and the flags, asks, prints the table and the page's path. Returns the exit code."""
  if not argv or "-h" in argv or "--help" in argv:
    print(USAGE, end="")
    return 0
  directory, *rest = argv
  if directory.startswith("--"):
    raise UserError(f"no workdir given, got {directory} first; wanted: dalle probe WORKDIR raven [--items 12 ...]")
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle probe WORKDIR raven")
  from dalle_jax import raven
  from dalle_jax.commands import progress
  from dalle_jax.evaluation.raven import table
  from dalle_jax.workdir import Workdir

  workdir = Workdir.open(directory)
  with progress.shown() as tell:
    found = raven.probe(
      workdir,
      items=given.items,
      seed=given.seed,
      out=given.out or workdir.path / "raven",
      batch=given.batch,
      mesh=given.mesh.shape(),
      progress=tell,
      say=lambda line: print(line, file=sys.stderr),
    )
  for rows in (found.by_set, found.by_kind, found.by_training):
    if rows:
      print(f"{table.as_text(rows)}\n")
  workdir.keep()
  print(workdir.place / "raven" / found.page.name if workdir.mirror and given.out is None else found.page)
  return 0
