"""Packs as files: experiments/ablations/NAME.py, whose pack() returns one."""

import dataclasses
from pathlib import Path

from dalle_jax import experiment
from dalle_jax.ablations.pack import Pack


@dataclasses.dataclass(frozen=True)
class Found:
  """A pack and the file it is in, whose name without .py is the pack's."""

  file: Path
  pack: Pack

  @property
  def name(self) -> str:
    return self.file.stem


def load(file: Path) -> Found:
  """The file's pack, which may import from its folder and the one above. Raises UserError in one line."""
  return Found(file, experiment.made_by(file, Pack, also=(file.resolve().parent.parent,)))
