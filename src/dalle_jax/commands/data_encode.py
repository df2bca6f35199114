"""`dalle data encode DIR --dvae WORKDIR --out DIR`: the dVAE's codes of a prepared data set's pictures."""

import dataclasses
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle data encode DIR --dvae WORKDIR --out DIR [--crops 1 --seed 0 --batch 64 --sampled False]

Writes the codes of --crops numbered crops of each picture, stamped with the dVAE's hash. A transformer reads them by
    dalle train EXPERIMENT --stages.transformer.examples.dir DIR --stages.transformer.examples.crops N
and of codes that are drawn (--sampled True, where the dVAE was trained by the published objective) with these as well:
    --stages.transformer.examples.sampled True
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Encodes a prepared data set's pictures once, so that no training step has to."""

  dvae: str
  """The workdir of a run whose dVAE is trained."""
  out: Path
  """Where to write; nothing may stand there yet."""
  crops: int = 1
  """Seeded stage-2 crops of each picture."""
  seed: int = 0
  """Of the crops; training wants its own seed here."""
  batch: int = 64
  """Crops encoded at the same time."""
  sampled: bool = False
  """Draw codes by their probabilities, for `examples.sampled`, in place of the most likely ones."""

  def __post_init__(self) -> None:
    for name in ("crops", "batch"):
      if getattr(self, name) < 1:
        raise UserError(f"got --{name} {getattr(self, name)}, wanted at least 1")


def run(argv: list[str]) -> int:
  """Parses the flags, encodes, prints the directory. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  directory, *rest = argv
  if directory.startswith("--"):
    raise UserError(f"no data named, got {directory} first; wanted: dalle data encode DIR --dvae WORKDIR --out DIR")
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle data encode")
  from dalle_jax.commands import progress
  from dalle_jax.data import codes
  from dalle_jax.data.prepared import open_prepared
  from dalle_jax.stage_codes import encoder, stamp_of
  from dalle_jax.workdir import Workdir

  prepared, workdir = open_prepared(directory), Workdir.open(given.dvae)
  stamp = stamp_of(prepared, workdir, crops=given.crops, seed=given.seed, sampled=given.sampled)
  total, done = given.crops * sum(stamp.examples.values()), 0
  with progress.shown() as tell:
    tell("encoding", 0, total)

    def encoded(count: int) -> None:
      nonlocal done
      done += count
      tell("encoding", done, total)

    codes.encode(prepared, given.out, stamp, encoder(workdir), batch=given.batch, progress=encoded)
  print(f"{total:,} crops as {stamp.grid}x{stamp.grid} codes of {stamp.vocab} by dVAE {stamp.dvae[:12]}\n\n{given.out}")
  return 0
