"""`dalle train EXPERIMENT --workdir DIR [--only STAGE] [any field of the experiment]`."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from dalle_jax.errors import UserError

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
  if not Path(file).is_file():
    raise UserError(f"no experiment file {file}; the ones that come with the project are in experiments/")
  from dalle_jax import experiment
  from dalle_jax import run as runner
  from dalle_jax.commands import flags

  def choose(signature: inspect.Signature) -> dict[str, Any]:
    own, rest[:] = _of_the_file(signature, rest)
    return vars(flags.parse(_parameters(signature), own, prog=f"dalle train {file}"))

  loaded = experiment.load(file, choose)
  given = flags.parse(flags.with_experiment(Flags, loaded), rest, prog=f"dalle train {file}")
  runner.run(given.experiment, given.workdir, only=given.only)
  return 0


def _of_the_file(signature: inspect.Signature, argv: list[str]) -> tuple[list[str], list[str]]:
  """The flags that are parameters of the file's function, each with its value, and the others."""
  own, rest, taking = [], [], False
  for word in argv:
    name = word.removeprefix("--").split("=")[0].replace("-", "_")
    if word.startswith("--"):
      taking = name in signature.parameters
    (own if taking else rest).append(word)
  return own, rest


def _parameters(signature: inspect.Signature) -> type:
  """The function's parameters as a dataclass of flags."""
  fields = [(name, p.annotation, dataclasses.field(default=p.default)) for name, p in signature.parameters.items()]
  return dataclasses.make_dataclass("Parameters", fields, frozen=True, kw_only=True)
