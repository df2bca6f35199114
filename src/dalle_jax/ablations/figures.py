"""What was measured of an arm at a seed, or why it could not be, as a file: OUT/PACK/figures/ARM-SEED.json.

Its key holds all that the figures depend on; a file of another key counts as not there.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dalle_jax import places
from dalle_jax.ablations import arms, keys
from dalle_jax.ablations.pack import Arm, Metric, Pack
from dalle_jax.ablations.runs import Bench
from dalle_jax.errors import StorageError
from dalle_jax.experiment import Experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
  """values: by metric; lacking: why there are none of those beside the deciding one; again: whether another try may
  find them; failed: why there are none at all; diverged: whether because training health stopped it, which it would
  again; made: commit, device and seconds, which depend on the day."""

  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  lacking: Mapping[str, str] = dataclasses.field(default_factory=dict)
  again: bool = False
  failed: str | None = None
  diverged: bool = False
  made: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def final(self) -> bool:
    """Whether another try would find nothing else."""
    return self.diverged or (self.failed is None and not self.again)

  def anywhere(self, out: Path) -> "Figures":
    """Reasons without where files lie, which are no part of them: the table is the same wherever it was made."""
    failed = self.failed and _without(self.failed, out)
    return dataclasses.replace(
      self, failed=failed, lacking={name: _without(said, out) for name, said in self.lacking.items()}
    )


def _without(said: str, out: Path) -> str:
  return said.replace(str(out.resolve()), "OUT").replace(str(out), "OUT")


def metrics(pack: Pack) -> tuple[Metric, ...]:
  """All that is measured, the deciding one first."""
  return (pack.metric, *pack.also)


def key(bench: Bench, pack: Pack, experiment: Experiment, arm: Arm, seed: int) -> str:
  """Of the run, the setting and what is measured."""
  told = [[metric.name, metric.unit] for metric in metrics(pack)]
  return keys.of([bench.workdir(experiment, pack.stage, seed).name, arms.setting(arm), told])


def file(out: Path, name: str, arm: str, seed: int) -> Path:
  """Where they are of a pack of that name."""
  return out / name / "figures" / f"{re.sub('[^0-9A-Za-z.=-]+', '_', arm)}-{seed}.json"


def write(place: Path, of: str, found: Figures) -> None:
  """Writes them under their key, whole or not at all. Raises StorageError where that can't be done."""
  try:
    place.parent.mkdir(parents=True, exist_ok=True)
    places.write(place, json.dumps({"key": of} | dataclasses.asdict(found), indent=1).encode() + b"\n")
  except OSError as error:
    raise StorageError(f"cannot write {place} ({error.strerror or error})") from error


def read(place: Path, of: str) -> Figures | None:
  """Those of that key; None where there are none. Raises StorageError where they can't be read."""
  try:
    found = json.loads(place.read_text())
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return None
  except OSError as error:
    raise StorageError(f"cannot read {place} ({error.strerror or error})") from error
  return Figures(**{name: value for name, value in found.items() if name != "key"}) if found.get("key") == of else None
