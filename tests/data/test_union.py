"""Processes that are really there: what they read of the batches, put together, is what one process reads by itself."""

import json
import os
import socket
import subprocess
import sys

import pytest
import share_reader
from share_reader import BATCH, STEPS, digest, rows, source_and_view

from dalle_jax.data import captions
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.pipeline import AHEAD, batches
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes

pytestmark = pytest.mark.slow

EXAMPLES = 30  # an epoch ends inside a batch
CASES = {(0, 0): "0:0", (1, 0): "1:0", (2, 0): "2:0", (2, 3): "2:3"}  # workers and the first step
FURTHEST = STEPS + 2 * (AHEAD + 4)  # steps that two workers may have read ahead


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with a prepared data set of captioned scenes, and a tokenizer of its captions."""
  directory = tmp_path_factory.mktemp("union")
  prepare(Scenes(Config(image=24, train=EXAMPLES, valid=5, test=5, test_pairs=2)), directory / "data")
  texts = [text for each in open_prepared(directory / "data").source("train").captions() for text in each]
  (directory / "words.model").write_bytes(captions.train(texts, share_reader.WORDS))
  return directory


@pytest.fixture(scope="module")
def whole(place):
  """Digests of the rows of one process's batches, read by threads, and of more of them than any test asks for."""
  stream = batches(*source_and_view(place), seed=0, batch=BATCH)
  return [[digest(row) for row in rows(next(stream))] for _ in range(FURTHEST)]


def read_by(count, place):
  """What so many processes read that run at once."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  given = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}
  told = os.environ | given | {"JAX_NUM_PROCESSES": str(count)}
  command = [sys.executable, share_reader.__file__, str(place), *CASES.values()]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  gang = [subprocess.Popen(command, env=told | {"JAX_PROCESS_ID": str(index)}, **pipes) for index in range(count)]
  try:
    said = [process.communicate(timeout=240) for process in gang]
  finally:
    for process in gang:
      process.kill()
  assert [process.returncode for process in gang] == [0] * count, said
  return [json.loads(out) for out, _ in said]


def test_the_rows_differ_so_that_another_order_would_show(whole):
  read = [row for step in whole[:STEPS] for row in step]
  assert len(read) > 2 * EXAMPLES
  assert len(set(read)) == len(read)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_processes_read_is_together_what_one_reads(place, whole, count):
  number = {row: i for i, row in enumerate(row for step in whole for row in step)}
  assert len(number) == FURTHEST * BATCH
  gang = read_by(count, place)
  assert [process["share"] for process in gang] == [[[index], count] for index in range(count)]
  for (_, first), case in CASES.items():
    for step, wanted in enumerate(whole[first:STEPS]):
      own = [process["read"][case][step] for process in gang]
      assert {len(read) for read in own} == {BATCH // count}
      assert len({row for read in own for row in read}) == BATCH  # none of them twice
      assert [row for read in own for row in read] == wanted
    for index, process in enumerate(gang):
      made = [number[row] for row in process["made"][case]]
      assert {i % BATCH * count // BATCH for i in made} == {index}  # nobody else's, read ahead neither
      assert len(set(made)) == len(made)
      assert min(made) // BATCH == first
