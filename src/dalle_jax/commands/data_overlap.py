"""`dalle data overlap A B`: evaluation pictures that training has seen, or something much like them."""

import dataclasses
import sys
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle data overlap A B --out DIR [--threshold T] [--by WORKDIR] [--neighbours 3] [--pairs 200] [--batch 256]

A: training pictures, B: evaluation pictures; each a prepared data set (DIR, or DIR:SPLIT), or a folder of pictures.
Writes DIR/index.html, B's pictures beside their nearest of A; with --threshold those about it, and DIR/exclude.json:
B's pictures whose nearest one has a cosine of T or more, for `dalle eval --exclude`. Another T does not look again.
--by WORKDIR compares by that run's CLIP; without it small thumbnails are compared, which finds plain copies alone.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Evaluation pictures that training has seen, or something much like them."""

  out: Path
  """A directory for the page and the list."""
  threshold: float | None = None
  """The cosine from which on a picture is left out; no list is written if not said."""
  by: str | None = None
  """A run whose CLIP compares; thumbnails are compared if not said."""
  neighbours: int = 3
  """Nearest training pictures shown of each picture."""
  pairs: int = 200
  """Evaluation pictures shown."""
  batch: int = 256
  """Pictures embedded at the same time."""

  def __post_init__(self) -> None:
    for name in ("neighbours", "pairs", "batch"):
      if getattr(self, name) < 1:
        raise UserError(f"got --{name} {getattr(self, name)}, wanted at least 1")
    if self.threshold is not None and not 0 < self.threshold <= 1:
      raise UserError(f"got --threshold {self.threshold:g}, wanted a cosine above 0 and up to 1")


def run(argv: list[str]) -> int:
  """Parses the flags, looks for neighbours, prints how many are near and the page's path. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  if begin != 2:
    got = " ".join(argv[:begin]) or "nothing"
    raise UserError(f"got {got}, wanted two sets of pictures: dalle data overlap TRAINING EVALUATION --out DIR")
  from dalle_jax import places

  for name in argv[:2]:
    if not places.at(name).exists() and not (":" in name and places.at(name.rpartition(":")[0]).exists()):
      raise UserError(f"no pictures at {name}: wanted a prepared data set, as DIR or DIR:SPLIT, or a folder")
  from dalle_jax.commands import flags

  given = flags.parse(Flags, argv[2:], prog="dalle data overlap")
  from dalle_jax import overlap
  from dalle_jax.commands import progress
  from dalle_jax.evaluation import picture_sets
  from dalle_jax.evaluation.overlap import thumbnails

  training = picture_sets.opened(argv[0], overlap.trained_on)
  evaluation = picture_sets.opened(argv[1], overlap.evaluated_on)
  embedding = thumbnails() if given.by is None else overlap.embedding_of(given.by)
  wanted = overlap.Wanted(threshold=given.threshold, neighbours=given.neighbours, pairs=given.pairs, batch=given.batch)
  with progress.shown() as tell:
    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    page, found = overlap.find(training, evaluation, embedding, wanted, out=given.out, progress=tell, say=say)
  print(f"training    {training}\nevaluation  {evaluation}")
  print(overlap.as_text(found, evaluation))
  print(f"\n{page}")
  return 0
