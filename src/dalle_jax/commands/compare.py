"""`dalle compare A B`: two results of `dalle eval --metrics` beside each other, if they were made alike."""

import dataclasses
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle compare A B [--across FIELD ...]

A and B are eval.json files of `dalle eval --metrics`, or the folders that hold them. Figures that both have are printed
beside each other. Where a fact of their protocols differs, the data, the split, the reference, the network or how the
pictures were drawn, they are not comparable: exit code 2, with the fact's name. --across names what may differ.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Compares two results."""

  across: tuple[str, ...] = ()
  """Facts that may differ, because they are what is compared: sampling.guidance, codes, ..."""


def run(argv: list[str]) -> int:
  """Parses the flags, compares, prints the table. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  if len(argv) < 2 or any(name.startswith("--") for name in argv[:2]):
    raise UserError(f"two results are wanted, got {' '.join(argv[:2])}: dalle compare A/eval.json B/eval.json")
  a, b, *rest = argv
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle compare")
  from dalle_jax.evaluation.metrics import comparison, result

  read = [result.read(_file(name)) for name in (a, b)]
  pairs = comparison.compare(*read, across=given.across)
  print(f"first: {a}\nsecond: {b}")
  for line in comparison.ran_on(*read):
    print(line)
  print(f"\n{comparison.as_text(pairs)}")
  return 0


def _file(name: str) -> Path:
  """The result that is meant: the file, or the one in the folder, or in a workdir's metrics folder."""
  place = Path(name)
  if place.is_dir():
    return next(
      (each for each in (place / "eval.json", place / "metrics" / "eval.json") if each.is_file()), place / "eval.json"
    )
  return place
