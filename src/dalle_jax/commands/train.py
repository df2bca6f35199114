"""`dalle train EXPERIMENT --workdir DIR [--only STAGE] [any field of the experiment]`."""

import dataclasses
from pathlib import Path

USAGE = """\
usage: dalle train EXPERIMENT --workdir DIR [--only STAGE] [--FIELD VALUE ...]

Runs the stages of an experiment file, or goes on with them where the workdir stands.
dalle train EXPERIMENT --help lists every field that can be set, e.g. --stages.transformer.steps 1000
Parameters of the file's experiment() are flags as well: dalle train experiments/pictures.py --data DIR --size s
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Runs the stages of an experiment, or goes on with them where the workdir stands."""

  workdir: Path
  """Where checkpoints, metrics and pictures go."""
  only: str | None = None
  """Run this stage alone."""


def run(argv: list[str]) -> int:
  """Parses the flags and runs the experiment. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  file, *rest = argv
  from dalle_jax.commands import experiment_flags

  experiment_flags.check_file(file)
  given = experiment_flags.parse(Flags, file, rest, prog="dalle train")
  from dalle_jax import run as runner

  runner.run(given.experiment, given.workdir, only=given.only)
  return 0
