"""A data set of TensorFlow Datasets as a source of `dalle data prepare`: read at random access, without TensorFlow.

It must be prepared as array_record or parquet (the files that are read without TensorFlow), and hold a picture and a
text. Builders that import TensorFlow need the extra `tensorflow`.
"""

import contextlib
import dataclasses
import difflib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from dalle_jax.data import tfds_features
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import UserError

DATA_DIR = Path("~/tensorflow_datasets")
EXTRA = "`pip install dalle-jax[tensorflow]`"
RANDOM_ACCESS = ("array_record", "parquet")
SPLITS = {"validation": "valid", "val": "valid", "dev": "valid"}  # what TFDS calls it: what it is called here


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfds:
  """A prepared data set; `image` and `text` are the paths of its two features."""

  builder: Any
  image: tfds_features.Path
  text: tfds_features.Path

  @property
  def name(self) -> str:
    return self.builder.name

  @property
  def splits(self) -> tuple[str, ...]:
    return tuple(sorted(self._theirs, key=lambda name: (name != "train", name)))

  def count(self, split: str) -> int:
    return self.builder.info.splits[self._theirs[split]].num_examples

  def examples(self, split: str) -> Iterator[Raw | Dropped]:
    source = self.builder.as_data_source(self._theirs[split], decoders=tfds_features.undecoded(self.image))
    for index in range(len(source)):
      key = f"{split}-{index:08d}"
      try:
        example = source[index]
      except Exception as error:  # ArrayRecord and Parquet raise whatever their libraries do
        yield Dropped(key=key, reason="unreadable record", detail=" ".join(str(error).split())[:120])
        continue
      image, captions = tfds_features.bytes_at(example, self.image), tfds_features.texts_at(example, self.text)
      yield Raw(key=key, image=image, captions=captions)

  @property
  def _theirs(self) -> dict[str, str]:
    """Our names of the splits that hold an example, and theirs."""
    names = [name for name, info in self.builder.info.splits.items() if info.num_examples]
    return {(ours if (ours := SPLITS.get(name, name)) not in names else name): name for name in names}


def open_tfds(
  name: str, *, data_dir: Path | None = None, image_feature: str | None = None, text_feature: str | None = None
) -> Tfds:
  """The data set of this name ("coco_captions", "my_set/config:1.0.0") in `data_dir`.

  Raises UserError when there is none of this name, when it is not prepared, when only TensorFlow could read it, or when
  its features are not a picture and a text.
  """
  where = Path(data_dir or os.environ.get("TFDS_DATA_DIR", DATA_DIR)).expanduser()
  builder = _on_disk(name, where)
  form = builder.info.file_format.value if builder.info.file_format else ""
  if form not in RANDOM_ACCESS:
    raise UserError(
      f"{name} in {where} is {form}, which only TensorFlow reads: {EXTRA}, then `tfds convert_format` to array_record"
    )
  image, text = tfds_features.find(name, builder.info.features, image_feature, text_feature)
  return Tfds(builder=builder, image=image, text=text)


def _on_disk(name: str, where: Path) -> Any:
  try:
    return tfds.core.read_only_builder.builder_from_files(name, data_dir=where)
  except (ValueError, OSError):  # there is none, or none that can be read
    raise UserError(_missing(name, where)) from None


def _missing(name: str, where: Path) -> str:
  """Why there is no data set of this name, and what to do."""
  try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
      tfds.builder(name, data_dir=where)
  except tfds.core.registered.DatasetNotFoundError:
    return _unknown(name, where)
  except Exception as error:  # stock builders fail in many ways before they are prepared; one of them has a remedy
    if "tensorflow" in str(error).lower() and isinstance(error, ImportError):
      return f"{name} is not prepared in {where}, and its TFDS builder needs TensorFlow: {EXTRA}, then prepare it there"
  return f"{name} is not prepared in {where}: let TFDS prepare it (file_format='array_record'), or name its --data-dir"


def _unknown(name: str, where: Path) -> str:
  plain = name.split("/")[0].split(":")[0]
  there = sorted(each.name for each in where.iterdir() if each.is_dir()) if where.is_dir() else []
  stock = tfds.core.registered.list_imported_builders()
  close = difflib.get_close_matches(plain, [*there, *stock], n=1)
  hint = f"; did you mean {close[0]!r}?" if close else ""
  return f"no folder and no data set {name!r} (looked in {where} and TFDS's own list){hint}"
