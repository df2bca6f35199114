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

  @property
  def told(self) -> str:
    """The file as it lies in the project, or of another the name alone: where that is differs between machines."""
    own = self.file.resolve().parts[-len(FOLDER.parts) - 1 : -1] == FOLDER.parts
    return (FOLDER / self.file.name).as_posix() if own else self.file.name


def load(file: Path) -> Found:
  """The file's pack, which may import what lies beside it and one directory up, or beside the project's packs and
  experiments. Raises UserError."""
  return Found(file, experiment.made_by(file, Pack, also=(file.resolve().parent.parent, FOLDER, FOLDER.parent)))
