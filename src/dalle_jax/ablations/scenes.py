"""The embedded data that packs train on at each scale, drawn once for all of them."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dalle_jax.ablations.alone import alone
from dalle_jax.data import captioned_scenes, prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError

TOLD = 256  # examples of each split
SPLITS = ("valid", "test", "test_pairs")
SCENES: Mapping[str, Mapping[str, int]] = {
  "smoke": {"train": 64} | dict.fromkeys(SPLITS, 16),
  "tiny": {"train": 10_000},
  "small": {"train": 30_000, "image": 64},
}


@dataclasses.dataclass(frozen=True)
class Data:
  """Prepared pictures with captions: where, and a digest of what is in there."""

  path: Path
  digest: str

  def told(self) -> dict[str, Any]:
    """Which it is, wherever and whenever it was written: its name, the size of each split, and SHA-256 of both and of
    the first examples of each. (The same examples are not the same bytes in files: records hold them in any order.)"""
    prepared = open_prepared(self.path)
    sources = {name: prepared.source(name) for name in prepared.splits}
    splits = {name: len(source) for name, source in sources.items()}
    sha = hashlib.sha256(json.dumps([prepared.name, splits]).encode())
    for source in sources.values():
      for row in range(min(TOLD, len(source))):
        example = source[row]
        sha.update(example["image"].tobytes())
        sha.update(json.dumps([example[name] for name in ("captions", "key", "attributes")]).encode())
    return {"name": prepared.name, "digest": sha.hexdigest(), "splits": splits}


def provided(out: Path, scale: str, given: Path | None, progress: prepare.Progress) -> Data:
  """The data in the directory `given`, or the scale's own scenes in OUT/data, drawn if they are not there.

  Raises UserError where the scale has none of its own, and what `data.prepare` raises.
  """
  if given is None and scale not in SCENES:
    raise UserError(f"--scale {scale} wants pictures of your own: name what `dalle data prepare` wrote, --data DIR")
  place = given or out / "data"
  if given is None:
    with alone(place):
      if not place.is_dir():
        config: Any = captioned_scenes.Config(**SCENES[scale])
        prepare.prepare(Scenes(config), place, progress=progress)
  return Data(place.resolve(), open_prepared(place).digest())
