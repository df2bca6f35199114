"""`dalle caption WORKDIR PICTURE ...`: captions of pictures, by a transformer that was trained image-first."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dalle_jax.commands.mesh_flags import Devices
from dalle_jax.errors import UserError

if TYPE_CHECKING:
  from dalle_jax.describe import Caption

USAGE = """\
usage: dalle caption WORKDIR PICTURE [PICTURE ...] [--num 8 --keep 3 --temperature 1 --top-k 0 --top-p 1]
                     [--seed 0] [--batch 256] [--json] [--mesh.data -1 --mesh.fsdp 1 --mesh.model 1]

Writes --num captions of each picture and prints the --keep best of those that differ, by the mean over a caption's
tokens of the logarithm of their likelihood. Of a run whose transformer has order="image_first", such as
experiments/demo_captions.py.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Writes captions of pictures and keeps the likeliest."""

  num: int = 8
  """Captions written of each picture."""
  keep: int | None = None
  """Captions printed of each picture, the best by their likelihood; 3, or all where fewer are written, if not said."""
  temperature: float = 1.0
  """0 takes the most likely token each time."""
  top_k: int = 0
  """Draw only from the k most likely tokens; 0: from all."""
  top_p: float = 1.0
  """Draw only from the fewest tokens that hold this much of the probability; 1: from all."""
  seed: int = 0
  """The same seed writes the same captions."""
  batch: int = 256
  """Captions written at the same time."""
  mesh: Devices = Devices()
  """Devices that write."""

  def __post_init__(self) -> None:
    for name in ("num", "keep", "batch"):
      if (value := getattr(self, name)) is not None and value < 1:
        raise UserError(f"got --{name} {value}, wanted at least 1")
    if self.keep is not None and self.keep > self.num:
      raise UserError(f"got --keep {self.keep} of --num {self.num}, wanted no more than are written: lower --keep")
    if self.top_k < 0:
      raise UserError(f"got --top-k {self.top_k}, wanted 1 or more, or 0 for all tokens")


def run(argv: list[str]) -> int:
  """Parses the flags, reads the pictures, prints a table or JSON. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  directory, pictures, rest = _split(argv)
  as_json = "--json" in rest
  from dalle_jax.commands import flags

  given = flags.parse(Flags, [arg for arg in rest if arg != "--json"], prog="dalle caption")
  if not pictures:
    raise UserError("no picture to describe; wanted: dalle caption WORKDIR picture.png [another.png ...]")
  from dalle_jax import describe
  from dalle_jax.commands import progress
  from dalle_jax.sampling.choose import SamplingConfig
  from dalle_jax.sampling.prompts import read_picture
  from dalle_jax.workdir import Workdir

  sampling = SamplingConfig(temperature=given.temperature, top_k=given.top_k or None, top_p=given.top_p)
  images = [read_picture(picture) for picture in pictures]
  workdir = Workdir.open(directory)
  with progress.shown() as tell:
    found = describe.captions(
      workdir,
      images,
      num=given.num,
      keep=min(3, given.num) if given.keep is None else given.keep,
      sampling=sampling,
      seed=given.seed,
      batch=given.batch,
      mesh=given.mesh.shape(),
      progress=tell,
      say=lambda line: print(line, file=sys.stderr),
    )
  if as_json:
    print(json.dumps([_as_json(*each) for each in zip(pictures, found, strict=True)], indent=2))
  else:
    _print_table(pictures, found)
  return 0


def _as_json(picture: str, written: "list[Caption]") -> dict:
  return {
    "picture": picture,
    "captions": [dataclasses.asdict(each) | {"score": each.score} for each in written],
  }


def _print_table(pictures: list[str], found: "list[list[Caption]]") -> None:
  from rich.console import Console
  from rich.markup import escape
  from rich.table import Table

  table = Table("picture", "caption", "ln p a token", "ln p", "tokens", "drawn", box=None)
  for picture, written in zip(pictures, found, strict=True):
    for place, each in enumerate(written):
      name = "" if place else Path(picture).name
      words = escape(name), escape(each.text)
      table.add_row(*words, f"{each.score:.3f}", f"{each.loglik:.2f}", str(each.tokens), str(each.times))
  Console().print(table)


def _split(argv: list[str]) -> tuple[str, list[str], list[str]]:
  """The workdir, the pictures that follow it, and the flags."""
  begin = next((i for i, word in enumerate(argv) if word.startswith("--")), len(argv))
  if not begin:
    raise UserError(f"no workdir given, got {argv[0]} first; wanted: dalle caption WORKDIR picture.png [--num 8]")
  directory, *pictures = argv[:begin]
  return directory, pictures, argv[begin:]
