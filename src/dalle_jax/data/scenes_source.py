"""`captioned_scenes` as a source of `dalle data prepare`."""

import dataclasses
from collections.abc import Iterator

from dalle_jax.data import captioned_scenes, scene_splits
from dalle_jax.data.source import Raw


@dataclasses.dataclass(frozen=True)
class Scenes:
  """Draws the examples of a split as they are asked for."""

  config: captioned_scenes.Config

  @property
  def name(self) -> str:
    return "captioned_scenes"

  @property
  def splits(self) -> tuple[str, ...]:
    return scene_splits.SPLITS

  def count(self, split: str) -> int:
    return getattr(self.config, split)

  def examples(self, split: str) -> Iterator[Raw]:
    for index in range(self.count(split)):
      example = captioned_scenes.make_example(self.config, split, index)
      yield Raw(
        key=example["key"],
        image=example["image"],
        captions=tuple(example["captions"]),
        attributes=example["attributes"],
      )
