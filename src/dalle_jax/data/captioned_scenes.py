"""`captioned_scenes`: the TFDS builder that draws the embedded data set. Nothing is downloaded.

Example i of a split is a function of (seed, split, i) alone: more examples extend a set, they never change it. One, two
and three objects take turns, so each makes up a third of any split.
"""

import dataclasses
import io
import random
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from dalle_jax.data import prepared, scene_captions, scene_drawing, scene_layout, scene_splits, scenes
from dalle_jax.errors import UserError


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
  """What to draw. TFDS wants its configs mutable, and a name that no other config has: it is the folder's."""

  name: str = ""  # made from the rest if empty
  image: int = 32  # pixels
  captions: int = 2  # for each scene, each with its own choice of what to say
  train: int = 30_000
  valid: int = 600
  test: int = 600
  test_pairs: int = 600
  seed: int = 0

  def __post_init__(self):
    for field in ("image", "captions", *scene_splits.SPLITS):
      if getattr(self, field) < 1:
        raise UserError(f"got {field}={getattr(self, field)} for captioned_scenes, wanted at least 1")
    self.name = self.name or f"{self.image}px-{self.train}-seed{self.seed}"


class CaptionedScenes(tfds.core.GeneratorBasedBuilder):
  """Pictures of one to three objects in relations, captions in varied wording, and the truth about both as JSON."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = prepared.features(self.builder_config.image)
    return self.dataset_info_from_configs(features=features, supervised_keys=None)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager
    return {split: self._generate_examples(split) for split in scene_splits.SPLITS}

  def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for index in range(getattr(self.builder_config, split)):
      example = make_example(self.builder_config, split, index)
      yield example["key"], example


def make_example(config: Config, split: str, index: int) -> dict[str, Any]:
  """Example `index` of a split: PNG bytes, captions, key, attributes."""
  rng = random.Random(f"{config.seed}/{split}/{index}")
  scene = scene_layout.sample(rng, count=1 + index % 3, split=split, pixel=scenes.FRAME / config.image)
  captions, claims = zip(*(scene_captions.caption(scene, rng.getrandbits(32)) for _ in range(config.captions)))
  png = io.BytesIO()
  Image.fromarray(scene_drawing.draw(scene, config.image)).save(png, "PNG", compress_level=1)
  return {
    "image": png.getvalue(),
    "captions": list(captions),
    "key": f"{split}-{index:07d}",
    "attributes": scenes.to_attributes(scene, claims),
  }
