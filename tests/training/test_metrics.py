"""What a run reports: lines that survive a kill, TensorBoard's files, pictures."""

import contextlib
import json
import resource

import numpy as np
import pytest
from PIL import Image

from dalle_jax.errors import StorageError
from dalle_jax.training import metrics
from dalle_jax.training.metrics import MetricsLog


def written(workdir, steps, resumed=0):
  log = MetricsLog(workdir, resumed)
  for step in steps:
    log.write(step, {"loss": 1 / step}, {"wall_s": 0.5})
  log.close()


def test_a_row_holds_its_step_and_its_numbers_and_keeps_time_apart(tmp_path):
  log = MetricsLog(tmp_path, 0)
  log.write(7, {"loss": 0.25, "kl": 2.0}, {"wall_s": 1.5})
  log.close()
  (row,) = metrics.read(tmp_path / "metrics.jsonl")
  assert row == {"step": 7, "loss": 0.25, "kl": 2.0, "timing": {"wall_s": 1.5}}


def test_resuming_cuts_off_what_lies_after_the_step(tmp_path):
  written(tmp_path, range(1, 9))
  written(tmp_path, [5, 6], resumed=4)
  assert [row["step"] for row in metrics.read(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
  written(tmp_path, [1, 2, 3])
  file = tmp_path / "metrics.jsonl"
  file.write_bytes(file.read_bytes()[:-9])
  assert [row["step"] for row in metrics.read(file)] == [1, 2]
  written(tmp_path, [3], resumed=3)
  assert [row["step"] for row in metrics.read(file)] == [1, 2, 3]


def test_numbers_that_are_not_finite_are_null_so_that_the_line_stays_json(tmp_path):
  log = MetricsLog(tmp_path, 0)
  log.write(1, {"loss": float("nan"), "grad_norm": float("inf")})
  log.close()

  def refuse(name):
    raise AssertionError(f"{name} is not JSON")

  row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
  assert row == {"step": 1, "loss": None, "grad_norm": None}


def test_tensorboard_finds_the_curves(tmp_path):
  written(tmp_path, [1, 2])
  (events,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
  assert b"loss" in events.read_bytes()
  assert b"timing/wall_s" in events.read_bytes()


def test_a_picture_becomes_a_png_named_by_its_step(tmp_path):
  picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
  log = MetricsLog(tmp_path, 0)
  log.show(12, {"samples": picture})
  log.close()
  with Image.open(tmp_path / "pictures" / "samples-0000012.png") as found:
    np.testing.assert_array_equal(np.asarray(found), picture)


def test_there_are_no_rows_where_there_is_no_file(tmp_path):
  assert metrics.read(tmp_path / "metrics.jsonl") == []


@contextlib.contextmanager
def files_no_longer_than(size):
  """The kernel refuses what would lie beyond it, as a full disk does."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.timeout(60)
def test_curves_that_find_no_room_end_the_run_and_do_not_hang_it(tmp_path):
  # An event is longer than its share of a line, so it is the event file that meets the limit.
  log = MetricsLog(tmp_path, 0)

  def write_on():
    for step in range(1000):
      log.write(step, {"loss": 1.0}, {f"a_rather_long_name_of_a_curve/{k}": 0.0 for k in range(5)})

  with files_no_longer_than(50_000), pytest.raises(StorageError, match=r"cannot write .*checkpoints are as they were"):
    write_on()
  (events,) = (tmp_path / "tensorboard").glob("*")
  assert events.stat().st_size == 50_000  # it was the curves that found none
  assert (tmp_path / "metrics.jsonl").stat().st_size < 50_000
  with files_no_longer_than(50_000):
    log.close()
