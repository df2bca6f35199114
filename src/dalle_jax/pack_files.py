"""Where the packs of ablations lie, found without loading any."""

from pathlib import Path

FOLDER = Path("experiments/ablations")
BASES = "bases"  # what the packs share, and no pack


def files(folder: Path = FOLDER) -> list[Path]:
  """The files of packs there are."""
  return sorted(file for file in folder.glob("*.py") if file.stem != BASES and not file.name.startswith("_"))
