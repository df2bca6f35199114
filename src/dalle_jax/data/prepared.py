"""A prepared data set: a TFDS directory of ArrayRecord files, read at random without TensorFlow.

    DIR/dataset_info.json  features.json  NAME-SPLIT.array_record-00000-of-0000N     TFDS's own
    DIR/report.json        counts, sizes, caption lengths, what was dropped and why
    DIR/dropped.jsonl      a line for each example that was left out

Every example holds `image` (PNG or JPEG bytes, 8-bit RGB), `captions`, `key` and `attributes` (see `source.Raw`).
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from dalle_jax import manifest, mirror, places
from dalle_jax.data import intact
from dalle_jax.errors import StorageError, UserError
from dalle_jax.places import Place


def features(size: int | None = None) -> tfds.features.FeaturesDict:
  """The features of a prepared data set, of pictures of one size or of any."""
  return tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
      "captions": tfds.features.Sequence(tfds.features.Text()),
      "key": tfds.features.Text(),
      "attributes": tfds.features.Text(),
    }
  )


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedSource(Sequence):
  """One split as a sequence of {"image": uint8[H, W, 3], "captions": list[str], "key": str, "attributes": str}."""

  path: Path
  split: str
  records: Any

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Raises StorageError naming the data set, split and example when a record is damaged or missing."""
    example = self._record(index)
    return {
      "image": decode(example["image"]),
      "captions": _texts(example["captions"]),
      "key": example["key"].decode(),
      "attributes": example["attributes"].decode(),
    }

  def captions(self) -> Iterator[list[str]]:
    """Each example's captions, without decoding its picture."""
    for i in range(len(self)):
      yield _texts(self._record(i)["captions"])

  def key(self, index: int) -> str:
    """An example's key, without decoding its picture."""
    return self._record(index)["key"].decode()

  def _record(self, index: int) -> dict[str, Any]:
    if not -len(self) <= index < len(self):
      raise IndexError(f"example {index} of {len(self)}")
    try:
      return self.records[index % len(self)]
    except Exception as error:
      reason = " ".join(str(error).split())[:120]
      raise StorageError(f"cannot read example {index} of {self.path}, split {self.split} ({reason})") from error


@dataclasses.dataclass(frozen=True)
class Prepared:
  """Splits and their sources."""

  path: Path

  @functools.cached_property
  def builder(self) -> Any:
    return tfds.builder_from_directory(self.path)

  @property
  def name(self) -> str:
    """What the data set is called."""
    return self.builder.name

  @property
  def splits(self) -> tuple[str, ...]:
    """Those that hold an example, the one to train on first where there is one."""
    names = [name for name, info in self.builder.info.splits.items() if info.num_examples]
    return tuple(sorted(names, key=lambda name: (name != "train", name)))

  def digest(self) -> str:
    """SHA-256 of what describes the set, its manifest with it, and of the names and sizes of its files."""
    sha = hashlib.sha256()
    for file in sorted(file for file in self.path.iterdir() if file.is_file()):
      sha.update(f"{file.name} {file.stat().st_size}\n".encode())
      if file.suffix == ".json":
        sha.update(file.read_bytes())
    return sha.hexdigest()

  def source(self, split: str) -> PreparedSource:
    """The examples of a split at random access. Raises UserError naming the splits there are."""
    if split not in self.splits:
      raise UserError(f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}")
    raw = {"image": tfds.decode.SkipDecoding()}
    return PreparedSource(self.path, split, self.builder.as_data_source(split, decoders=raw))


def open_prepared(path: str | Place) -> Prepared:
  """The prepared data set in a directory; of one in a bucket, a copy on this machine.

  Raises UserError, saying how to make one, when there is none; StorageError when a file of it is missing or damaged.
  """
  place = places.at(path)
  directory = mirror.copied(place) if places.in_bucket(place) else place
  if not directory.is_dir():
    raise UserError(f"no data at {path}: make it with `dalle data prepare NAME|FOLDER --out {path}`")
  described = (directory / "features.json").is_file() and (directory / "dataset_info.json").is_file()
  if not described and not (directory / manifest.NAME).exists():
    raise UserError(f"{path} is not a prepared data set: `dalle data prepare {path} --out DIR` makes one of a folder")
  intact.check(directory, "prepare it again with `dalle data prepare`")
  prepared = Prepared(directory)
  wanted = set(features())
  if set(prepared.builder.info.features) != wanted:
    raise UserError(
      f"{path} was not written by `dalle data prepare`: each example must hold {', '.join(sorted(wanted))}"
    )
  return prepared


def decode(image: bytes) -> np.ndarray:
  """uint8[H, W, 3] of PNG or JPEG bytes."""
  return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def _texts(captions: Sequence[bytes]) -> list[str]:
  return [caption.decode() for caption in captions]
