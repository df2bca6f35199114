"""Codes on disk: whose they are, of which crops, whole or not there at all."""

import dataclasses
import errno
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import codes
from dalle_jax.data.codes import Stamp, check, encode, open_codes
from dalle_jax.data.images import Stage2Crop, numbered_crop
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.source import Raw
from dalle_jax.errors import StorageError, UserError

SIZE, GRID = 8, 2


class Noisy:
  """Pictures of noise in two splits."""

  name, splits = "noisy", ("train", "valid")

  def examples(self, split):
    for i in range(7 if split == "train" else 2):
      png = io.BytesIO()
      noise = np.random.default_rng([i, len(split)]).integers(0, 256, (9, 40, 3))
      Image.fromarray(noise.astype(np.uint8)).save(png, "PNG")
      yield Raw(key=f"{split}-{i}", image=png.getvalue(), captions=(f"picture {i} é", "another"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  directory = tmp_path_factory.mktemp("codes")
  prepare(Noisy(), directory / "data")
  return open_prepared(directory / "data")


def wanted(prepared, **changes):
  options = {"dvae": "d" * 64, "vocab": 2**16, "grid": GRID, "size": SIZE, "crops": 3, "seed": 4}
  return codes.stamp(prepared, **(options | changes))


def corners(images_BHWC):
  """A stand-in for the dVAE: each quarter's first pixel as a 16-bit number."""
  red, green = (images_BHWC[:, :: SIZE // GRID, :: SIZE // GRID, c].astype(np.int32) for c in (0, 1))
  return red * 256 + green


def test_what_is_written_are_the_codes_of_the_numbered_crops(prepared, tmp_path):
  told, batches = [], []

  def encode_fn(images_BHWC):
    batches.append(images_BHWC.shape)
    return corners(images_BHWC)

  encoded = encode(prepared, tmp_path / "out", wanted(prepared), encode_fn, batch=7, progress=told.append)
  assert set(batches) == {(6, SIZE, SIZE, 3)}  # two pictures of three crops, the last part filled up
  assert sum(told) == 9 * 3
  largest = 0
  for split, count in (("train", 7), ("valid", 2)):
    source, pictures = encoded.source(split), prepared.source(split)
    assert len(source) == len(pictures) == count
    by_key = {each["key"]: each for each in (pictures[i] for i in range(count))}
    for example in (source[i] for i in range(count)):
      picture = by_key.pop(example["key"])
      assert example["captions"] == picture["captions"]
      assert example["codes"].dtype == np.uint16
      assert example["codes"].shape == (3, GRID, GRID)
      for n in range(3):
        crop = numbered_crop(Stage2Crop(size=SIZE), picture["image"], seed=4, key=example["key"], number=n)
        np.testing.assert_array_equal(example["codes"][n], corners(crop[None])[0])
      largest = max(largest, example["codes"].max())
    assert not by_key
  assert largest > 2**15  # beyond a signed 16-bit number


def test_the_stamp_says_whose_codes_they_are_and_of_what(prepared, tmp_path):
  stamp = wanted(prepared)
  encode(prepared, tmp_path / "out", stamp, corners)
  found = open_codes(str(tmp_path / "out"))
  assert found.stamp == stamp
  assert json.loads((tmp_path / "out/codes.json").read_text()) == {
    "dvae": "d" * 64,
    "vocab": 65536,
    "grid": 2,
    "size": 8,
    "crops": 3,
    "seed": 4,
    "data": "noisy",
    "examples": {"train": 7, "valid": 2},
    "sampled": False,
  }
  check(found, stamp)
  assert os.listdir(tmp_path) == ["out"]


CHANGES = {
  "dvae": "e" * 64,
  "vocab": 2**15,
  "grid": 4,
  "size": 16,
  "crops": 2,
  "seed": 5,
  "data": "other",
  "examples": {"train": 8},
  "sampled": True,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Stamp)])
def test_codes_of_something_else_are_refused_by_name(prepared, tmp_path, field):
  stamp = wanted(prepared)
  found = codes.Codes(tmp_path / "out", stamp)
  what = "another dVAE" if field == "dvae" else f"another {field}"
  with pytest.raises(UserError, match=f"the codes in {tmp_path}/out are of {what} .* encode the data again") as info:
    check(found, dataclasses.replace(stamp, **{field: CHANGES[field]}))
  assert "\n" not in str(info.value)


def test_a_codebook_that_sixteen_bits_do_not_hold_is_refused(prepared):
  wanted(prepared, vocab=2**16)
  with pytest.raises(UserError, match="a codebook of 65537 does not fit, 65,536 is the most"):
    wanted(prepared, vocab=2**16 + 1)


@pytest.mark.parametrize(
  "make", [lambda out: (out.mkdir(), (out / "x").write_text("")), lambda out: out.write_text("")]
)
def test_what_stands_at_out_is_never_touched(prepared, tmp_path, make):
  make(tmp_path / "out")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(UserError, match="holds something already: take another --out, or remove it"):
    encode(prepared, tmp_path / "out", wanted(prepared), corners)
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
  ("error", "becomes"),
  [
    (ZeroDivisionError(), ZeroDivisionError),
    (KeyboardInterrupt(), KeyboardInterrupt),
    (OSError(errno.ENOSPC, "No space left on device"), StorageError),
  ],
)
def test_nothing_is_left_when_encoding_fails_half_way(prepared, tmp_path, error, becomes):
  calls = []

  def failing(images_BHWC):
    calls.append(1)
    if len(calls) == 3:
      raise error
    return corners(images_BHWC)

  with pytest.raises(becomes):
    encode(prepared, tmp_path / "out", wanted(prepared), failing, batch=6)
  assert len(calls) == 3
  assert os.listdir(tmp_path) == []


def test_codes_that_are_not_there_say_how_to_make_them(tmp_path):
  with pytest.raises(UserError, match=f"no codes at {tmp_path}/out: make them with `dalle data encode DATA --dvae"):
    open_codes(tmp_path / "out")


@pytest.mark.parametrize("content", ["{", "[1]", '{"dvae": "x"}', '{"dvae": "x", "more": 1}', "\xff"])
def test_a_stamp_that_cannot_be_read_is_one_line(prepared, tmp_path, content):
  encode(prepared, tmp_path / "out", wanted(prepared), corners)
  (tmp_path / "out/codes.json").write_text(content, encoding="latin-1")
  with pytest.raises(UserError, match=r"codes.json can't be read .* encode the data again") as info:
    open_codes(tmp_path / "out")
  assert "\n" not in str(info.value)


def test_a_split_that_is_not_there_names_those_that_are(prepared, tmp_path):
  encoded = encode(prepared, tmp_path / "out", wanted(prepared), corners)
  with pytest.raises(UserError, match="has no split 'test'; it has train, valid"):
    encoded.source("test")


def test_codes_can_be_gone_through_and_end(prepared, tmp_path):
  source = encode(prepared, tmp_path / "out", wanted(prepared), corners).source("train")
  assert [example["key"] for example in source] == [source[i]["key"] for i in range(7)]
  with pytest.raises(IndexError):
    source[7]


def test_a_damaged_shard_is_a_storage_error_that_names_split_and_example(prepared, tmp_path):
  source = encode(prepared, tmp_path / "out", wanted(prepared), corners).source("train")
  (shard,) = (tmp_path / "out").glob("codes-train.array_record*")
  content = bytearray(shard.read_bytes())
  written = [i for i, byte in enumerate(content) if byte]  # blocks are filled up with zeros
  for i in written[len(written) // 2 :][:32]:
    content[i] ^= 0xFF
  shard.write_bytes(content)
  with pytest.raises(StorageError, match=rf"cannot read example [0-6] of {tmp_path}/out, split train"):
    list(source)


def test_codes_that_are_drawn_have_a_seed_for_each_crop(prepared, tmp_path):
  def first_of_the_seed(images_BHWC, seed_B):
    assert images_BHWC.shape[0] == len(seed_B)
    return np.broadcast_to((seed_B % 2**16).astype(np.int32)[:, None, None], (len(seed_B), GRID, GRID))

  found = []
  for name, batch in (("one", 7), ("two", 100)):
    encoded = encode(prepared, tmp_path / name, wanted(prepared, sampled=True), first_of_the_seed, batch=batch)
    source = encoded.source("train")
    found.append({each["key"]: each["codes"][:, 0, 0].tolist() for each in (source[i] for i in range(len(source)))})
  assert found[0] == found[1]  # whatever is encoded beside it
  assert len({code for each in found[0].values() for code in each}) == 7 * 3
