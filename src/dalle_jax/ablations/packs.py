"""Packs as files: experiments/ablations/NAME.py, whose pack() returns one."""

import dataclasses
from pathlib import Path

from dalle_jax import experiment
from dalle_jax.ablations.pack import Pack
from dalle_jax.pack_files import FOLDER


@dataclasses.dataclass(frozen=True)
class Found:
  """A pack and the file it is in, whose name without .py is the pack's."""

  file: Path
  pack: Pack

  @property
  def name(self) -> str:
    return self.file.stem


def load(file: Path) -> Found:
  """The file's pack, which may import what lies beside the project's packs and experiments. Raises UserError."""
  return Found(file, experiment.made_by(file, Pack, also=(FOLDER, FOLDER.parent)))
