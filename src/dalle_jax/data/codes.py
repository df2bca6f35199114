"""A prepared data set's pictures as the dVAE's codes: encoded once, read many times.

    DIR/features.json  codes-SPLIT.array_record-... and so on    TFDS's: captions, key and uint16 codes of each picture
    DIR/codes.json                                                the stamp: whose codes they are, of which crops

N numbered crops of each picture, h w grid of codes, H W pixels, B crops encoded at a time.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int

from dalle_jax import mirror, places
from dalle_jax.data import intact
from dalle_jax.data.images import Stage2Crop, numbered_crop
from dalle_jax.data.prepared import Prepared
from dalle_jax.data.scratch import publish, scratch_for
from dalle_jax.data.writing import quiet_tfds
from dalle_jax.errors import StorageError, UserError
from dalle_jax.places import Place

STAMP = "codes.json"
# Of pictures; and, where codes are drawn, of a seed for each, uint32[B].
Encode = Callable[..., Int[np.ndarray, "B h w"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stamp:
  """What codes are of: two sets with equal stamps hold equal codes.

  dvae: digest of the weights; data, examples: the prepared set's name and its examples by split; size: of a crop;
  sampled: whether codes are drawn from what the dVAE gives each position, in place of the most likely ones.
  """

  dvae: str
  vocab: int
  grid: int
  size: int
  crops: int
  seed: int
  data: str
  examples: dict[str, int]
  sampled: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class CodesSource(Sequence):
  """One split as a sequence of {"codes": uint16[N, h, w], "captions": list[str], "key": str}."""

  path: Path
  split: str
  records: Any

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Raises StorageError naming the directory, split and example when a record is damaged or missing."""
    if not 0 <= index < len(self):
      raise IndexError(f"{self.path}, split {self.split} has no example {index}; it has {len(self)}")
    try:
      example = self.records[index]
    except Exception as error:
      reason = " ".join(str(error).split())[:120]
      raise StorageError(f"cannot read example {index} of {self.path}, split {self.split} ({reason})") from error
    captions = [caption.decode() for caption in example["captions"]]
    return {"codes": example["codes"], "captions": captions, "key": example["key"].decode()}


@dataclasses.dataclass(frozen=True)
class Codes:
  """Encoded splits and what they are of."""

  path: Path
  stamp: Stamp

  @functools.cached_property
  def builder(self) -> Any:
    return tfds.builder_from_directory(self.path)

  def source(self, split: str) -> CodesSource:
    """The codes of a split at random access. Raises UserError naming the splits there are."""
    if split not in self.stamp.examples:
      raise UserError(f"{self.path} has no split {split!r}; it has {', '.join(self.stamp.examples)}")
    return CodesSource(self.path, split, self.builder.as_data_source(split))


def stamp(
  prepared: Prepared, *, dvae: str, vocab: int, grid: int, size: int, crops: int, seed: int, sampled: bool = False
) -> Stamp:
  """What the codes of this data by this dVAE will be stamped with."""
  if vocab > 2**16:
    raise UserError(f"codes are written as 16-bit numbers: a codebook of {vocab} does not fit, 65,536 is the most")
  examples = {split: len(prepared.source(split)) for split in prepared.splits}
  sizes = {"vocab": vocab, "grid": grid, "size": size, "crops": crops, "seed": seed, "sampled": sampled}
  return Stamp(dvae=dvae, data=prepared.name, examples=examples, **sizes)


def open_codes(path: str | Place) -> Codes:
  """The codes in a directory. Raises UserError when there are none, StorageError when they are damaged."""
  place = places.at(path)
  directory = mirror.copied(place) if places.in_bucket(place) else place
  file = directory / STAMP
  if not file.is_file():
    raise UserError(f"no codes at {path}: make them with `dalle data encode DATA --dvae WORKDIR --out {path}`")
  try:
    stamp = Stamp(**json.loads(file.read_text()))
  except (ValueError, TypeError) as error:
    raise UserError(f"{file} can't be read ({str(error)[:80]}): encode the data again") from error
  intact.check(directory, "encode it again with `dalle data encode`")
  return Codes(directory, stamp)


def check(codes: Codes, wanted: Stamp) -> None:
  """Raises UserError naming the first thing in which the codes are of something else than is wanted."""
  for field in dataclasses.fields(Stamp):
    found, asked = getattr(codes.stamp, field.name), getattr(wanted, field.name)
    if found != asked:
      what = "another dVAE" if field.name == "dvae" else f"another {field.name}"
      raise UserError(
        f"the codes in {codes.path} are of {what} ({str(found)[:40]}, wanted {str(asked)[:40]}): "
        "encode the data again, to another --out"
      )


def encode(
  prepared: Prepared,
  out: Path,
  wanted: Stamp,
  encode_fn: Encode,
  *,
  batch: int = 64,
  progress: Callable[[int], object] = lambda count: None,
) -> Codes:
  """Writes the codes of `wanted.crops` numbered stage-2 crops of every picture; `out` appears when all is written.

  progress: told after each batch how many crops it held. Raises UserError when `out` is there already or can't be
  written, StorageError when the disk is full.
  """
  out = out.resolve()
  make = _builder(wanted, lambda split: _examples(prepared, split, wanted, encode_fn, batch, progress))
  with scratch_for(out) as scratch:
    with quiet_tfds():
      builder = make(data_dir=scratch)
      builder.download_and_prepare(file_format="array_record")
    written = Path(builder.data_dir)
    (written / STAMP).write_text(json.dumps(dataclasses.asdict(wanted), indent=1) + "\n")
    intact.seal(written)
    publish(written, out)
  return open_codes(out)


def _examples(
  prepared: Prepared, split: str, wanted: Stamp, encode_fn: Encode, batch: int, progress: Callable[[int], object]
) -> Iterator[tuple[str, dict[str, Any]]]:
  source, crop = prepared.source(split), Stage2Crop(size=wanted.size)
  pictures = max(1, batch // wanted.crops)
  for rows in _in_parts(len(source), pictures):
    examples = [source[row] for row in rows]
    crops_BHWC = np.stack(
      [
        numbered_crop(crop, example["image"], seed=wanted.seed, key=example["key"], number=number)
        for example in examples
        for number in range(wanted.crops)
      ]
    )
    # The last part is filled up, so that one program encodes them all.
    short = pictures * wanted.crops - len(crops_BHWC)
    given = [crops_BHWC]
    if wanted.sampled:
      given.append(np.array([_seed(wanted, example["key"], n) for example in examples for n in range(wanted.crops)]))
    codes_Bhw = encode_fn(*(np.concatenate([each, np.repeat(each[-1:], short, axis=0)]) for each in given))
    codes_PNhw = (
      codes_Bhw[: len(crops_BHWC)].astype(np.uint16).reshape(len(examples), wanted.crops, *codes_Bhw.shape[1:])
    )
    progress(len(crops_BHWC))
    for example, codes_Nhw in zip(examples, codes_PNhw):
      yield example["key"], {"codes": codes_Nhw, "captions": example["captions"], "key": example["key"]}


def _seed(wanted: Stamp, key: str, number: int) -> np.uint32:
  """Of what is drawn for a crop: another one than the crop's own (no byte of a key is 256)."""
  return np.random.default_rng([wanted.seed, number, *key.encode(), 256]).integers(2**32, dtype=np.uint32)


def _in_parts(total: int, size: int) -> Iterator[range]:
  for begin in range(0, total, size):
    yield range(begin, min(begin + size, total))


def _builder(wanted: Stamp, examples: Callable[[str], Iterator]) -> type:
  codes = tfds.features.Tensor(
    shape=(wanted.crops, wanted.grid, wanted.grid), dtype=np.uint16, encoding=tfds.features.Encoding.BYTES
  )
  text = tfds.features.Text()

  class CodesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # a process may encode twice
    name = "codes"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
      features = {"codes": codes, "captions": tfds.features.Sequence(text), "key": text}
      return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), supervised_keys=None)

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
      del dl_manager
      return {split: examples(split) for split in wanted.examples}

    def _generate_examples(self) -> Iterator[Any]:
      yield from ()

  return CodesBuilder
