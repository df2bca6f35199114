"""`dalle human make|score`: a form on which people compare two sources of pictures, and what they answered."""

import dataclasses
import sys
from pathlib import Path

from dalle_jax.commands.suggest import suggest
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle human make A B --captions FILE --out DIR [--limit N] [--workers 5] [--num 32] [--seed 0] [--batch 256]
       dalle human score DIR ANSWERS.json ... [--without FORM ...]

make writes DIR/form, which is given to people: a page for each, which saves their answers as a file; and DIR/key.json,
which is not. A, B: a workdir, of which the best of --num pictures of each caption is drawn (by its CLIP; without one
the first); what `dalle sample` wrote; or a folder with a picture a caption, in the order of names.
score prints how often the majority is for each, by question, and writes DIR/scores. --without leaves a form out.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Make:
  """Writes the forms."""

  captions: str
  """A caption a line, or PartiPrompts' table."""
  out: Path
  """A directory that is not there yet."""
  limit: int | None = None
  """The first so many captions; all if not said."""
  workers: int = 5
  """Forms, one a person, each in an order of its own."""
  num: int = 32
  """Pictures drawn of each caption where a workdir draws."""
  seed: int = 0
  """Of the pictures and of the order."""
  batch: int = 256
  """Pictures drawn at the same time."""

  def __post_init__(self) -> None:
    for name in ("limit", "workers", "num", "batch"):
      if (value := getattr(self, name)) is not None and value < 1:
        raise UserError(f"got --{name} {value}, wanted at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """Counts the answers."""

  without: tuple[int, ...] = ()
  """Numbers of forms that are left out."""


def run(argv: list[str]) -> int:
  """Dispatches to the subcommand. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  if argv[0] not in SUBCOMMANDS:
    raise UserError(f"no command 'human {argv[0]}'; {suggest(argv[0], list(SUBCOMMANDS))}")
  if argv[1:] in (["-h"], ["--help"]):
    print(USAGE, end="")
    return 0
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  return SUBCOMMANDS[argv[0]](argv[1:begin], argv[begin:])


def _make(named: list[str], argv: list[str]) -> int:
  if len(named) != 2:
    got = " ".join(named) or "nothing"
    raise UserError(f"got {got}, wanted two sources of pictures: dalle human make A B --captions FILE --out DIR")
  from dalle_jax import places

  for name in named:
    if not places.at(name).exists():
      raise UserError(f"no pictures at {name}: wanted a workdir, what `dalle sample` wrote, or a folder of pictures")
  from dalle_jax.commands import flags

  given = flags.parse(Make, argv, prog="dalle human make")
  from dalle_jax import human
  from dalle_jax.commands import progress

  with progress.shown() as tell:
    made = human.make(
      (named[0], named[1]),
      given.captions,
      out=given.out,
      limit=given.limit,
      workers=given.workers,
      num=given.num,
      seed=given.seed,
      batch=given.batch,
      progress=tell,
      say=lambda line: print(line, file=sys.stderr),
    )
  print(made)
  return 0


def _score(named: list[str], argv: list[str]) -> int:
  if len(named) < 2:
    raise UserError("no answers given; wanted: dalle human score DIR ANSWERS.json ... [--without FORM]")
  for name in named[1:]:
    if not Path(name).is_file():
      raise UserError(f"no answers at {name}: wanted a file that a form saved")
  from dalle_jax.commands import flags

  given = flags.parse(Score, argv, prog="dalle human score")
  from dalle_jax import human

  text, page = human.score(named[0], named[1:], given.without)
  print(f"{text}\n\n{page}")
  return 0


SUBCOMMANDS = {"make": _make, "score": _score}
