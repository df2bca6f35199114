"""Batches as a function of (seed, step): for any number of processes and workers, from any start."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import captions, intact
from dalle_jax.data.captions import Tokenizer, TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.data.pipeline import batches
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.source import Raw
from dalle_jax.data.views import PictureView
from dalle_jax.errors import StorageError, UserError

EXAMPLES, BATCH, STEPS = 10, 4, 12  # almost five epochs, whose ends may lie inside a batch


def view(element, rng):
  return {"id": np.array(element), "drawn": np.array(rng.integers(1 << 30))}


def read(steps=STEPS, source=range(EXAMPLES), seed=0, batch=BATCH, **options):
  stream = batches(source, view, seed=seed, batch=batch, **options)
  return [next(stream) for _ in range(steps)]


def joined(parts):
  """The processes' shares of each step, one behind the other."""
  return [{key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts)]


def same(a, b):
  return len(a) == len(b) and all(np.array_equal(x[key], y[key]) for x, y in zip(a, b) for key in x)


@pytest.fixture(scope="module")
def whole():
  return read()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_reads_the_same_batches(whole, processes):
  parts = [read(parts=[p], of=processes) for p in range(processes)]
  assert all(len(step["id"]) == BATCH // processes for part in parts for step in part)
  assert same(joined(parts), whole)


def test_a_process_reads_parts_that_are_no_neighbours(whole):
  rows = np.r_[0 : BATCH // 4, 3 * BATCH // 4 : BATCH]
  assert same(read(parts=[0, 3], of=4), [{key: x[rows] for key, x in step.items()} for step in whole])


@pytest.mark.parametrize("first", [0, 1, 2, 7, 11])
def test_any_step_can_be_begun_with(whole, first):
  assert same(read(STEPS - first, first=first), whole[first:])
  part = read(STEPS - first, first=first, parts=[1], of=2)
  assert same(part, [{key: x[BATCH // 2 :] for key, x in step.items()} for step in whole[first:]])


def test_each_epoch_holds_every_example_once_in_an_order_of_its_own(whole):
  ids = np.concatenate([step["id"] for step in whole])
  epochs = [ids[i : i + EXAMPLES].tolist() for i in range(0, 4 * EXAMPLES, EXAMPLES)]
  for epoch in epochs:
    assert sorted(epoch) == list(range(EXAMPLES))
  assert len({tuple(epoch) for epoch in epochs}) == 4
  assert list(range(EXAMPLES)) not in epochs


def test_an_example_is_seen_with_another_generator_each_time(whole):
  drawn = np.concatenate([step["drawn"] for step in whole])
  assert len(set(drawn.tolist())) == len(drawn)


def test_another_seed_gives_another_order_and_other_generators(whole):
  other = read(seed=1)
  assert not np.array_equal(other[0]["id"], whole[0]["id"]) or not np.array_equal(other[1]["id"], whole[1]["id"])
  assert not set(np.concatenate([s["drawn"] for s in other])) & set(np.concatenate([s["drawn"] for s in whole]))
  assert same(read(seed=1), other)


def test_another_batch_size_reads_the_same_rows(whole):
  """Row i of all rows does not depend on how many make a batch."""
  ids = np.concatenate([step["id"] for step in whole])
  np.testing.assert_array_equal(np.concatenate([step["id"] for step in read(8, batch=6)]), ids)


def test_a_batch_may_be_of_one(whole):
  ids = np.concatenate([step["id"] for step in whole])
  assert np.concatenate([step["id"] for step in read(20, batch=1)]).tolist() == ids[:20].tolist()


def test_a_batch_larger_than_the_data_is_filled_by_further_epochs():
  ids = read(2, source=range(3), batch=7)[0]["id"].tolist()
  assert sorted(ids[:3]) == sorted(ids[3:6]) == [0, 1, 2]


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"source": []}, "there is no example to train on: the split is empty"),
    ({"of": 3}, "a batch of 4 does not divide into 3 parts: change the batch"),
  ],
)
def test_no_example_and_a_batch_that_does_not_divide_are_refused(options, says):
  with pytest.raises(UserError, match=says):
    read(**options)


class Coloured:
  """A data set of pictures of noise, each with three captions."""

  name, splits = "coloured", ("train",)

  def __init__(self, number):
    self.number = number

  def examples(self, split):
    for i in range(self.number):
      png = io.BytesIO()
      Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(png, "PNG")
      texts = tuple(f"a colourful picture, number {i} {word}" for word in ("once", "twice", "thrice"))
      yield Raw(key=f"{i:03d}", image=png.getvalue(), captions=texts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """The directory of a prepared data set in two shards, with a tokenizer of its captions beside it."""
  directory = tmp_path_factory.mktemp("data")
  prepare(Coloured(40), directory / "data", shards=2)
  texts = [text for each in open_prepared(directory / "data").source("train").captions() for text in each]
  (directory / "words.model").write_bytes(captions.train(texts, WORDS))
  return directory


WORDS = TokenizerConfig(vocab=300, length=32, dropout=0.3)


def seen(directory, epochs=3):
  """The first epochs as a stage would read them, a batch each."""
  words = Tokenizer((directory / "words.model").read_bytes(), WORDS)
  source = open_prepared(directory / "data").source("train")
  stream = batches(source, PictureView(crop=Stage1Crop(size=16), tokenizer=words), seed=0, batch=40)
  return [next(stream) for _ in range(epochs)]


def test_crops_captions_and_dropout_differ_between_epochs(data):
  first, second, _ = seen(data)
  assert first["image"].shape == (40, 16, 16, 3)
  assert first["text"].shape == (40, 32)
  crops = [{crop.tobytes() for crop in epoch["image"]} for epoch in (first, second)]
  texts = [{ids.tobytes() for ids in epoch["text"]} for epoch in (first, second)]
  assert len(crops[0] & crops[1]) < 4
  assert len(texts[0] & texts[1]) < 10


WORKERS = """
import hashlib, json, os, sys, time
from pathlib import Path
from dalle_jax.data.captions import Tokenizer, TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.data.pipeline import batches
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.views import PictureView

def main():
  directory, workers, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
  words = Tokenizer((directory / "words.model").read_bytes(), TokenizerConfig(vocab=300, length=32, dropout=0.3))
  view = PictureView(crop=Stage1Crop(size=16), tokenizer=words)
  source = open_prepared(directory / "data").source("train")
  stream = batches(source, view, seed=0, batch=6, first=first, workers=workers)
  found = []
  for step in range(first, 15):
    batch = next(stream)
    found.append(hashlib.sha256(b"".join(batch[key].tobytes() for key in sorted(batch))).hexdigest())
  print(json.dumps(found), flush=True)
  while "wait" in sys.argv:
    time.sleep(1)
  if workers:
    stream.close()

if __name__ == "__main__":
  main()
"""


def start(tmp_path, data, workers, *more, first=0):
  script = tmp_path / "read.py"
  script.write_text(WORKERS)
  command = [sys.executable, str(script), str(data), str(workers), str(first), *more]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_any_number_of_workers_reads_the_same_batches(tmp_path, data):
  found = {}
  for workers, first in ((0, 0), (1, 0), (2, 0), (2, 7)):
    with start(tmp_path, data, workers, first=first) as process:
      out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found[workers, first] = json.loads(out)
  assert len(set(found[0, 0])) == 15
  assert found[0, 0] == found[1, 0] == found[2, 0]
  assert found[2, 7] == found[0, 0][7:]


def descendants(pid):
  """Processes below one, by /proc."""
  parents = {}
  for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
      rest = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
      continue
    if rest[0] != "Z":
      parents[int(stat.parent.name)] = int(rest[1])
  below, found = {pid}, set()
  while below := {child for child, parent in parents.items() if parent in below}:
    found |= below
  return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_workers_die_with_their_parent(tmp_path, data, number):
  process = start(tmp_path, data, 2, "wait")
  children = set()
  try:
    assert len(json.loads(process.stdout.readline())) == 15
    children = descendants(process.pid)
    assert len(children) >= 2
    process.send_signal(number)
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
      time.sleep(0.1)
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []
  finally:
    process.kill()
    for child in children:
      if Path(f"/proc/{child}").exists():
        os.kill(child, signal.SIGKILL)
    process.communicate()


def damaged(data, tmp_path):
  """A copy of the data set, one of whose two shards has bytes flipped in its middle."""
  shutil.copytree(data / "data", tmp_path / "damaged")
  shard = min((tmp_path / "damaged").glob("*.array_record-00001-of-00002"))
  content = bytearray(shard.read_bytes())
  middle = len(content) // 2
  for i in range(middle, middle + 64):
    content[i] ^= 0xFF
  shard.write_bytes(content)
  return tmp_path / "damaged"


def test_a_damaged_shard_is_a_storage_error_that_names_data_split_and_example(data, tmp_path, monkeypatch):
  path = damaged(data, tmp_path)
  with pytest.raises(StorageError, match="is damaged: its SHA-256 differs; copy it anew, or prepare it again"):
    open_prepared(path)
  monkeypatch.setattr(intact, "MOST_HASHED", 0)  # as with a large data set, whose records have their own checksums
  source = open_prepared(path).source("train")
  said = {}
  for i in range(len(source)):
    try:
      source[i]
    except StorageError as error:
      said[i] = str(error)
  assert 1 <= len(said) <= 20  # none of the other shard's
  for i, line in said.items():
    assert f"cannot read example {i} of {path}, split train (" in line
    assert "\n" not in line
  stream = batches(source, PictureView(crop=Stage1Crop(size=16)), seed=0, batch=40)
  with pytest.raises(StorageError, match=rf"cannot read example \d+ of {path}, split train"):
    next(stream)
