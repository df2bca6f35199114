"""`dalle train EXPERIMENT --workdir DIR [--only STAGE] [any field of the experiment]`."""

import dataclasses
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle train EXPERIMENT --workdir DIR [--only STAGE] [--FIELD VALUE ...]

Runs the stages of an experiment file, or goes on with them where the workdir stands.
dalle train EXPERIMENT --help lists every field that can be set, e.g. --stages.transformer.steps 1000
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
  if not Path(file).is_file():
    raise UserError(f"no experiment file {file}; the ones that come with the project are in experiments/")
  from dalle_jax import experiment
  from dalle_jax import run as runner
  from dalle_jax.commands import flags

  loaded = experiment.load(file)
  given = flags.parse(flags.with_experiment(Flags, loaded), rest, prog=f"dalle train {file}")
  runner.run(given.experiment, given.workdir, only=given.only)
  return 0
