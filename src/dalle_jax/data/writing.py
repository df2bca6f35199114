"""Checked examples as TFDS writes them: ArrayRecord files, features.json and dataset_info.json, without TensorFlow."""

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from dalle_jax.data.checks import Checked
from dalle_jax.data.prepared import features


class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A data set of examples that are at hand; its name is its source's, not its class's."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, name: str, examples: Mapping[str, Iterable[Checked]], data_dir: Path):
    self.name = identifier(name)
    self._examples = examples
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self, description="Written by `dalle data prepare`.", features=features(), supervised_keys=None
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    del dl_manager
    return {split: self._generate_examples(examples) for split, examples in self._examples.items()}

  def _generate_examples(self, examples: Iterable[Checked]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in examples:
      yield (
        each.key,
        {
          "image": each.image,
          "captions": list(each.captions),
          "key": each.key,
          "attributes": each.attributes,
        },
      )


class AtMost(tfds.core.utils.shard_utils.ShardConfig):
  """As many files as asked for, or as there are examples."""

  def get_number_shards(self, total_size: int, num_examples: int, uses_precise_sharding: bool = True) -> int:
    return min(num_examples, super().get_number_shards(total_size, num_examples, uses_precise_sharding))


class Settings(tfds.download.DownloadConfig):
  """TFDS's settings, with files counted as above."""

  def get_shard_config(self) -> AtMost:
    return AtMost(num_shards=self.num_shards)


def write(name: str, examples: Mapping[str, Iterable[Checked]], directory: Path, shards: int | None) -> Path:
  """Writes the examples of each split under `directory` and returns where; shards: files a split, or None."""
  with quiet_tfds():
    builder = Written(name=name, examples=examples, data_dir=directory)
    builder.download_and_prepare(download_config=Settings(num_shards=shards))
  return Path(builder.data_dir)


def identifier(name: str) -> str:
  """The name in the letters that TFDS takes: lower case, digits, underscores, a letter first."""
  plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "pictures"
  return plain if plain[0].isalpha() else f"pictures_{plain}"


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Without TFDS's bars, prints and warnings: progress is reported by the source's examples."""
  before = logging.get_verbosity()
  tfds.disable_progress_bar()
  logging.set_verbosity(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    logging.set_verbosity(before)
