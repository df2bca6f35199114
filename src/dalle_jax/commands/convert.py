"""`dalle convert FILE... --out DIR`: other projects' published weights, for use here."""

import dataclasses
from pathlib import Path

from dalle_jax.errors import UserError

USAGE = """\
usage: dalle convert FILE... --out DIR [--kind KIND]

Reads weights that other projects published, and writes DIR/weights.safetensors and DIR/config.json.
FILE: PyTorch (.pt .pth .pkl .bin .ckpt), safetensors, Flax msgpack, or a folder of Hugging Face; nothing in a file is
run. Vocabularies and settings (.json .txt .gz .model .yaml) are kept beside the weights. What they are is found by the
names of their arrays; --kind says so. docs/converting.md lists what is read, and where each file comes from.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Reads weights that other projects published."""

  out: Path
  """A directory that is not there yet."""
  kind: str | None = None
  """What the weights are of; found by their arrays' names if not said."""


def run(argv: list[str]) -> int:
  """Parses the flags, converts, prints what was found. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  paths, rest = [Path(word) for word in argv[:begin]], argv[begin:]
  if not paths:
    raise UserError(f"no file given, got {argv[0]} first; wanted: dalle convert FILE... --out DIR")
  for path in paths:
    if not path.exists():
      raise UserError(f"no file {path}")
  from dalle_jax.commands import flags

  given = flags.parse(Flags, rest, prog="dalle convert")
  from dalle_jax import convert_files

  print(convert_files.as_text(convert_files.convert(paths, given.out, given.kind), given.out))
  return 0
