"""`dalle data inspect DIR`: says what is in a prepared data set, and writes a page of examples."""

import dataclasses
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle data inspect DIR [--vocab 16384 --length 256 --examples 48 --out FILE.html]

Prints counts, sizes, caption lengths, how many captions the tokenizer cuts, what was left out and why; writes
DIR/inspection.html, with examples.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Says what is in a prepared data set, and writes a page of examples."""

  vocab: int = 16384
  """Pieces of the tokenizer that is trained on the captions."""
  length: int = 256
  """Text positions; one less than this is the most that is read of a caption."""
  examples: int = 48
  """Pictures shown of each split."""
  out: Path | None = None
  """The page; DIR/inspection.html if not said."""

  def __post_init__(self) -> None:
    if self.examples < 1:
      raise UserError(f"got --examples {self.examples}, wanted at least 1")


def run(argv: list[str]) -> int:
  """Parses the flags, inspects, prints what was found and the page's path. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  directory, *rest = argv
  if directory.startswith("-"):
    raise UserError(f"no data set given, got {directory} first; wanted: dalle data inspect DIR [--length 256 ...]")
  if not Path(directory).is_dir():
    raise UserError(f"no data at {directory}: make it with `dalle data prepare NAME|FOLDER --out {directory}`")
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle data inspect")
  from dalle_jax import inspect_page
  from dalle_jax.data import inspection
  from dalle_jax.data.captions import TokenizerConfig

  found = inspection.inspect(directory, TokenizerConfig(vocab=given.vocab, length=given.length))
  print(inspection.as_text(found))
  print(f"\n{inspect_page.write(given.out or Path(directory) / 'inspection.html', found, given.examples)}")
  return 0
