"""`dalle score WORKDIR PICTURES --captions FILE`: how likely the transformer finds pictures of captions."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from dalle_jax.commands.mesh_flags import Devices
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle score WORKDIR PICTURES --captions FILE [--retrieval] [--maps 64] [--batch 32] [--out DIR] [--strict]
                   [--mesh.data -1 --mesh.fsdp 1 --mesh.model 1]
       dalle score WORKDIR --data DIR [--split NAME] [--limit 64] [--retrieval] ...

Writes scores.tsv, a line for each picture and its caption, heat maps of what was not expected where, and a page.
PICTURES: a folder, whose pictures are taken in the order of their names, or one picture. FILE: a caption a line in the
same order; or, if every line holds a tab, lines of a picture's name, a tab and a caption. With --data the pairs are the
first of a prepared data set. --retrieval scores every picture with every caption: how often do those that belong
together come first? --strict refuses captions that are longer than what is read of them.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """How likely the transformer finds pictures of captions."""

  captions: str | None = None
  """A caption a line, or lines of a picture's name, a tab and a caption."""
  data: str | None = None
  """A prepared data set, in place of PICTURES and --captions."""
  split: str | None = None
  """Its split; the one that was trained on least if not said."""
  limit: int | None = None
  """How many of its pictures; 64 if not said."""
  maps: int = 64
  """Of how many pairs heat maps are drawn, the first ones."""
  batch: int = 32
  """Pairs scored at the same time."""
  out: Path | None = None
  """Where to write; WORKDIR/scores if not said."""
  mesh: Devices = Devices()
  """Devices that score."""

  def __post_init__(self) -> None:
    for name, least in (("limit", 1), ("maps", 0), ("batch", 1)):
      if (value := getattr(self, name)) is not None and value < least:
        raise UserError(f"got --{name} {value}, wanted at least {least}")
    if self.data is None and (self.split is not None or self.limit is not None):
      raise UserError("--split and --limit are of a prepared data set: add --data DIR, or leave them out")


def run(argv: list[str]) -> int:
  """Parses the flags, scores, prints the means and the page's path. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  places, rest = argv[:begin], argv[begin:]
  bare = {flag: flag in rest for flag in ("--retrieval", "--strict")}
  from dalle_jax.commands import flags

  given = flags.parse(Flags, [arg for arg in rest if arg not in bare], prog="dalle score")
  _check(places, given)
  from dalle_jax import evaluate, score
  from dalle_jax.commands import progress
  from dalle_jax.evaluation import score_page
  from dalle_jax.workdir import Workdir

  wanted = score.Wanted(maps=given.maps, retrieval=bare["--retrieval"], batch=given.batch, strict=bare["--strict"])
  pairs, source = _pairs(places, given)
  workdir = Workdir.open(places[0])
  about = {"experiment": workdir.experiment().name, "pairs": source}
  for line in score.caveats(workdir):
    print(line, file=sys.stderr)
  with progress.shown() as tell:
    scored = score.score(
      evaluate.drawer(workdir, shape=given.mesh.shape()),
      workdir.tokenizer(),
      pairs,
      wanted,
      out=given.out or workdir.path / "scores",
      about=about,
      progress=tell,
      say=lambda line: print(line, file=sys.stderr),
    )
  workdir.keep()
  print(score_page.as_text(scored.scores, scored.matched))
  kept = workdir.mirror and given.out is None
  print(f"\n{workdir.place / 'scores' / scored.page.name if kept else scored.page}")
  return 0


def _check(places: list[str], given: Flags) -> None:
  """Raises UserError where what is named does not fit together."""
  wanted = "wanted: dalle score WORKDIR PICTURES --captions FILE, or dalle score WORKDIR --data DIR"
  if not places:
    raise UserError(f"no workdir given; {wanted}")
  if len(places) > 2:
    raise UserError(f"got {places[2]} after the workdir and the pictures; {wanted}")
  if given.data is not None and (len(places) == 2 or given.captions is not None):
    raise UserError(f"got --data and pictures or captions too; {wanted}")
  if given.data is None and len(places) == 1:
    raise UserError(f"no pictures given; {wanted}")
  if given.data is None and given.captions is None:
    raise UserError(f"no captions given; {wanted}")


def _pairs(places: list[str], given: Flags) -> tuple[Any, str]:
  """The pairs, and what the page calls them."""
  from dalle_jax.evaluation import pairs

  if given.data is None:
    return pairs.from_files(places[1], given.captions), f"{places[1]} with {given.captions}"
  from dalle_jax.data.prepared import open_prepared
  from dalle_jax.evaluation import examples

  prepared = open_prepared(given.data)
  split = examples.held_out_split(prepared, given.split)
  return pairs.from_data(prepared, split, given.limit or 64), f"the first of {given.data}, split {split}"
