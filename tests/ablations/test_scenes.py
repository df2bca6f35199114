"""Which data a table is of: told alike wherever and whenever it was written."""

import dataclasses

import pytest

from dalle_jax.ablations.scenes import Data
from dalle_jax.data import captioned_scenes
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes

SIZES = captioned_scenes.Config(train=6, valid=2, test=2, test_pairs=2, image=16)


@dataclasses.dataclass(frozen=True)
class Changed:
  """The scenes, with something of each example changed."""

  whole: Scenes
  change: dict

  @property
  def name(self):
    return self.whole.name

  @property
  def splits(self):
    return self.whole.splits

  def examples(self, split):
    for each in self.whole.examples(split):
      yield dataclasses.replace(each, **self.change)


def told(source, place):
  prepare(source, place)
  return Data(place, open_prepared(place).digest()).told()


def test_the_same_examples_are_told_alike_in_files_of_other_sizes(tmp_path):
  one = told(Scenes(SIZES), tmp_path / "one")
  prepare(Scenes(SIZES), tmp_path / "two", shards=2)
  two = Data(tmp_path / "two", open_prepared(tmp_path / "two").digest())
  assert two.digest != open_prepared(tmp_path / "one").digest()
  assert two.told() == one
  assert one["splits"] == {"train": 6, "test": 2, "test_pairs": 2, "valid": 2}


@pytest.mark.parametrize("change", [{"captions": ("another",)}, {"attributes": ""}])
def test_other_examples_are_told_apart(change, tmp_path):
  assert (
    told(Scenes(SIZES), tmp_path / "one")["digest"] != told(Changed(Scenes(SIZES), change), tmp_path / "two")["digest"]
  )
