"""`dalle checkpoint ls|verify|diff|export`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from dalle_jax.commands.suggest import suggest
from dalle_jax.errors import UserError

USAGE = """\
usage: dalle checkpoint ls PATH                 which checkpoints there are, and whether their files are there
       dalle checkpoint verify PATH             read every byte; exit code 88 if one is not good
       dalle checkpoint diff PATH PATH          in what two differ: experiment, arrays, numbers; exit code 1 if they do
       dalle checkpoint export PATH --out DIR   the weights as DIR/STAGE.safetensors, with experiment.json

PATH is a workdir, WORKDIR/STAGE, or WORKDIR/STAGE/checkpoints/STEP; of a stage, diff and export take the newest step.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
  """Writes a checkpoint's weights as safetensors."""

  out: Path
  """A directory that is not there yet."""
  ema: bool = True
  """The moving average of the weights, where there is one; False: the weights themselves."""


def run(argv: list[str]) -> int:
  """Dispatches to the subcommand. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help") or argv[1:] in (["-h"], ["--help"]):
    print(USAGE, end="")
    return 0
  name, *rest = argv
  if name not in SUBCOMMANDS:
    raise UserError(f"no command 'checkpoint {name}'; {suggest(name, list(SUBCOMMANDS))}")
  wanted = 2 if name == "diff" else 1
  begin = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
  paths, flags = rest[:begin], rest[begin:]
  if len(paths) != wanted or (flags and name != "export"):
    paths_wanted = " ".join(["PATH"] * wanted)
    raise UserError(f"got {' '.join(rest) or 'nothing'}, wanted: dalle checkpoint {name} {paths_wanted}")
  from dalle_jax import places

  for path in paths:
    if not places.at(path).exists():
      raise UserError(f"no checkpoints at {path}: there is no such directory")
  return SUBCOMMANDS[name](paths, flags)


def _ls(paths: list[str], flags: list[str]) -> int:
  from dalle_jax import checkpoint_files

  for line in checkpoint_files.listed(paths[0]):
    print(line)
  return 0


def _verify(paths: list[str], flags: list[str]) -> int:
  from dalle_jax import checkpoint_files
  from dalle_jax.errors import StorageError

  return StorageError.exit_code if checkpoint_files.verified(paths[0], print) else 0


def _diff(paths: list[str], flags: list[str]) -> int:
  from dalle_jax import checkpoint_files

  lines = checkpoint_files.different(*(checkpoint_files.one(path) for path in paths))
  print("\n".join(lines) if lines else "nothing differs")
  return 1 if lines else 0


def _export(paths: list[str], argv: list[str]) -> int:
  from dalle_jax.commands import flags

  given = flags.parse(Export, argv, prog="dalle checkpoint export")
  from dalle_jax import checkpoint_files

  print(checkpoint_files.export(checkpoint_files.one(paths[0]), given.out, ema=given.ema))
  return 0


SUBCOMMANDS: dict[str, Callable[[list[str], list[str]], int]] = {
  "ls": _ls,
  "verify": _verify,
  "diff": _diff,
  "export": _export,
}
