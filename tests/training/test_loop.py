"""The loop: an interrupted run ends with the bits of one that was not, and stops for the right reasons."""

import os
import signal

import jax
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import StorageError, TrainingPreempted, TrainingUnhealthy, UserError
from dalle_jax.schedules import Constant
from dalle_jax.training import left_out, metrics
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.loop import Hook, train
from dalle_jax.training.optimizers import AdamW, WarmupPlateau

STEPS = 18


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
  """A run that nothing interrupted: its state on the host, its rows, its workdir."""
  workdir = tmp_path_factory.mktemp("whole")
  state = jax.device_get(train(steps=STEPS, **toy.options("denoise", workdir)))
  return state, rows(workdir), workdir


def rows(workdir):
  """metrics.jsonl without what depends on the clock."""
  return [{k: v for k, v in row.items() if k != "timing"} for row in metrics.read(workdir / "metrics.jsonl")]


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def failing_at(step, toy, draw):
  """Batches that end in an error, as when the process is killed while it waits for data."""

  def batches(start):
    for i, batch in enumerate(toy.batches(draw, start), start):
      if i == step:
        raise KeyboardInterrupt
      yield batch

  return batches


def test_a_run_reaches_its_last_step_and_saves_it(whole):
  state, found, workdir = whole
  assert int(state.step) == STEPS
  assert [row["step"] for row in found] == list(range(1, STEPS + 1))
  assert Checkpoints(workdir / "checkpoints").good_steps() == [12, 16, 18]
  assert all(np.isfinite(row["loss"]) for row in found)
  assert (workdir / "parameters.txt").read_text().count("\n") == 5


SLOW = pytest.mark.slow


@pytest.mark.parametrize("broken_at", [pytest.param([1], marks=SLOW), pytest.param([9], marks=SLOW), [4, 5, 13]])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(toy, whole, tmp_path, broken_at):
  for step in broken_at:
    options = toy.options("denoise", tmp_path, batches=failing_at(step, toy, toy.vectors))
    with pytest.raises(KeyboardInterrupt):
      train(steps=STEPS, **options)
  state = train(steps=STEPS, **toy.options("denoise", tmp_path))
  equal(jax.device_get(state), whole[0])
  assert rows(tmp_path) == whole[1]


@pytest.mark.slow
def test_the_state_of_a_plateau_schedule_survives_too(toy, tmp_path):
  lr = WarmupPlateau(peak=1e-2, warmup=2, window=2, patience=1, tolerance=0.5)
  changes = {"optimizer": AdamW(lr=lr, clip=1.0)}
  whole = train(steps=STEPS, **toy.options("denoise", tmp_path / "a", **changes))
  broken = {"batches": failing_at(9, toy, toy.vectors)}
  with pytest.raises(KeyboardInterrupt):
    train(steps=STEPS, **toy.options("denoise", tmp_path / "b", **changes, **broken))
  equal(train(steps=STEPS, **toy.options("denoise", tmp_path / "b", **changes)), whole)
  assert len({row["learning_rate"] for row in rows(tmp_path / "a")}) > 3


def test_a_damaged_newest_checkpoint_costs_its_steps_and_not_a_bit(toy, whole, tmp_path, caplog):
  with pytest.raises(KeyboardInterrupt):
    train(steps=STEPS, **toy.options("denoise", tmp_path, batches=failing_at(14, toy, toy.vectors)))
  files = (p for p in (tmp_path / "checkpoints" / "12" / "params").rglob("*") if p.is_file())
  file = max(files, key=lambda p: p.stat().st_size)
  data = bytearray(file.read_bytes())
  data[-1] ^= 1
  file.write_bytes(data)
  state = train(steps=STEPS, **toy.options("denoise", tmp_path))
  assert "going on from checkpoint 8" in caplog.text
  equal(jax.device_get(state), whole[0])
  assert rows(tmp_path) == whole[1]


def test_a_finished_run_returns_at_once(toy, whole, capsys):
  def no_batches(start):
    raise AssertionError("data was read")

  state = train(steps=STEPS, **toy.options("denoise", whole[2], batches=no_batches))
  equal(jax.device_get(state), whole[0])
  assert capsys.readouterr().err == ""


def test_a_finished_run_given_more_steps_goes_on(toy, whole, tmp_path):
  train(steps=10, **toy.options("denoise", tmp_path))
  equal(jax.device_get(train(steps=STEPS, **toy.options("denoise", tmp_path))), whole[0])


def test_eight_devices_resume_to_the_same_bits(toy, tmp_path):
  mesh = sharding.make_mesh(sharding.MeshShape(data=2, fsdp=2, model=2))
  whole = train(steps=10, **toy.options("denoise", tmp_path / "a", mesh=mesh))
  broken = failing_at(7, toy, toy.vectors)
  with pytest.raises(KeyboardInterrupt):
    train(steps=10, **toy.options("denoise", tmp_path / "b", mesh=mesh, batches=broken))
  equal(train(steps=10, **toy.options("denoise", tmp_path / "b", mesh=mesh)), whole)


def test_sigterm_saves_the_step_at_hand_and_is_told_apart(toy, whole, tmp_path):
  def batches(start):
    for i, batch in enumerate(toy.batches(toy.vectors, start), start):
      if i == 6:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(TrainingPreempted, match="saved step 7") as caught:
    train(steps=STEPS, **toy.options("denoise", tmp_path, batches=batches))
  assert caught.value.exit_code == 75
  assert signal.getsignal(signal.SIGTERM) == before
  assert Checkpoints(tmp_path / "checkpoints").good_steps() == [4, 7]
  equal(jax.device_get(train(steps=STEPS, **toy.options("denoise", tmp_path))), whole[0])
  assert rows(tmp_path) == whole[1]


def test_sigterm_in_the_last_step_is_not_forgotten(toy, tmp_path):
  hooks = [Hook(every=5, fn=lambda step, params: os.kill(os.getpid(), signal.SIGTERM))]
  with pytest.raises(TrainingPreempted, match="saved step 5"):
    train(steps=5, **toy.options("denoise", tmp_path, hooks=hooks))
  assert Checkpoints(tmp_path / "checkpoints").newest() == 5


def test_too_many_updates_in_a_row_that_are_not_finite_stop_the_run(toy, tmp_path):
  def batches(start):
    for i, batch in enumerate(toy.batches(toy.vectors, start), start):
      yield {"x": batch["x"] * np.float32(np.nan)} if i in (2, 3) or i >= 9 else batch

  optimizer = AdamW(lr=Constant(1e-2), max_skipped=3)
  with pytest.raises(TrainingUnhealthy, match="3 updates in a row up to step 12") as caught:
    train(steps=STEPS, **toy.options("denoise", tmp_path, batches=batches, optimizer=optimizer))
  assert caught.value.exit_code == 87
  assert Checkpoints(tmp_path / "checkpoints").good_steps() == [4, 8]
  found = rows(tmp_path)
  assert [row["skipped"] for row in found] == [0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 2, 3]
  assert found[-1]["skipped_total"] == 5
  assert found[-1]["loss"] is None


@pytest.mark.slow
def test_batches_that_stopped_a_run_are_passed_over_when_asked(toy, tmp_path):
  def batches(start):
    for i, batch in enumerate(toy.batches(toy.vectors, start), start):
      yield {"x": batch["x"] * np.float32(np.nan)} if 9 <= i < 12 else batch

  given = {"batches": batches, "optimizer": AdamW(lr=Constant(1e-2), max_skipped=3)}
  with pytest.raises(TrainingUnhealthy, match=r"3 updates in a row up to step 12 .*--rollback"):
    train(steps=20, **toy.options("denoise", tmp_path / "stopped", **given))
  assert left_out.roll_back(tmp_path / "stopped") == [10, 11, 12]
  assert left_out.roll_back(tmp_path / "stopped") == []
  train(steps=20, **toy.options("denoise", tmp_path / "stopped", **given))
  found = rows(tmp_path / "stopped")
  assert [row["step"] for row in found if "left_out" in row] == [10, 11, 12]
  assert found[-1]["skipped_total"] == 3
  # The same as a run that passes them over from the start; and they were in truth not used.
  (tmp_path / "whole").mkdir()
  left_out.record(tmp_path / "whole", [10, 11, 12])
  left_out.roll_back(tmp_path / "whole")
  train(steps=20, **toy.options("denoise", tmp_path / "whole", optimizer=given["optimizer"]))
  train(steps=20, **toy.options("denoise", tmp_path / "other", optimizer=given["optimizer"]))
  ours, same, other = (
    Checkpoints(tmp_path / name / "checkpoints").digest(20) for name in ("stopped", "whole", "other")
  )
  assert ours == same != other


def test_hooks_run_when_due_and_after_the_last_step_with_the_moving_average(toy, tmp_path):
  seen = []

  def show(step, params):
    seen.append((step, np.asarray(params["up"]["bias"])))
    return {"accuracy": step / 100, "grid": np.full((2, 3, 3), step, np.uint8)}

  hooks = [Hook(every=4, fn=show), Hook(every=5, fn=lambda step, params: None)]
  state = train(steps=10, **toy.options("denoise", tmp_path, hooks=hooks))
  assert [step for step, _ in seen] == [4, 8, 10]
  np.testing.assert_array_equal(seen[-1][1], state.ema["up"]["bias"])
  assert [row for row in rows(tmp_path) if "accuracy" in row] == [
    {"step": 4, "accuracy": 0.04},
    {"step": 8, "accuracy": 0.08},
    {"step": 10, "accuracy": 0.1},
  ]
  assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == [
    "grid-0000004.png",
    "grid-0000008.png",
    "grid-0000010.png",
  ]


def test_hooks_do_not_change_what_is_learnt(toy, whole, tmp_path):
  hooks = [Hook(every=3, fn=lambda step, params: {"norm": float(np.sum(params["up"]["kernel"]))})]
  equal(jax.device_get(train(steps=STEPS, **toy.options("denoise", tmp_path, hooks=hooks))), whole[0])


def test_the_data_is_closed_however_the_run_ends(toy, tmp_path):
  class Data:
    closed = 0

    def __init__(self, start):
      self.batches = toy.batches(toy.vectors, start)

    def __iter__(self):
      return self

    def __next__(self):
      return next(self.batches)

    def close(self):
      Data.closed += 1

  def broken(step, params):
    raise OSError("from a hook")

  train(steps=2, **toy.options("denoise", tmp_path / "a", batches=Data))
  with pytest.raises(OSError, match="from a hook"):
    train(steps=4, **toy.options("denoise", tmp_path / "a", batches=Data, hooks=[Hook(every=3, fn=broken)]))
  assert Data.closed == 2


def test_data_that_ends_too_soon_is_one_line(toy, tmp_path):
  some = [batch for batch, _ in zip(toy.batches(toy.vectors, 0), range(3))]
  with pytest.raises(UserError, match="the data ended before step 18"):
    train(steps=STEPS, **toy.options("denoise", tmp_path, batches=lambda start: iter(some)))


def test_a_batch_that_does_not_divide_over_the_devices_is_one_line(toy, tmp_path):
  mesh = sharding.make_mesh(sharding.MeshShape())
  odd = [{"x": np.zeros((6, 8), np.float32)}]
  with pytest.raises(UserError, match="a batch of 6 does not divide over 8 devices"):
    train(steps=1, **toy.options("denoise", tmp_path, mesh=mesh, batches=lambda start: iter(odd)))


def test_a_workdir_of_another_model_is_one_line(toy, whole):
  with pytest.raises(UserError, match=r"is of another model: .*wanted float32"):
    train(steps=STEPS, **toy.options("denoise", whole[2], objective=toy.Denoise(width=32)))


def test_metrics_that_cannot_be_written_are_a_storage_error(toy, tmp_path):
  if not os.path.exists("/dev/full"):
    pytest.skip("there is no /dev/full")
  train(steps=4, **toy.options("denoise", tmp_path))

  def fill_the_disk(step, params):
    # Writes to this device fail as on a full disk.
    os.dup2(full, metrics_file())

  def metrics_file():
    wanted = os.stat(tmp_path / "metrics.jsonl").st_ino
    return next(fd for fd in range(3, 256) if _inode(fd) == wanted)

  full = os.open("/dev/full", os.O_WRONLY)
  try:
    with pytest.raises(StorageError, match=r"cannot write .*metrics.jsonl.*No space left on device"):
      train(steps=10, **toy.options("denoise", tmp_path, hooks=[Hook(every=6, fn=fill_the_disk)]))
  finally:
    os.close(full)
  assert Checkpoints(tmp_path / "checkpoints").good_steps() == [4]


def _inode(fd):
  try:
    return os.fstat(fd).st_ino
  except OSError:
    return None


def test_the_loop_says_what_it_trains_and_where_it_stands(toy, tmp_path, capsys):
  train(steps=4, **toy.options("denoise", tmp_path))
  train(steps=6, **toy.options("denoise", tmp_path))
  said = capsys.readouterr().err.splitlines()
  assert said[0] == "denoise: 272 parameters on 1 cpu (data 1 x fsdp 1 x model 1), from scratch to step 4"
  assert said[1] == "denoise: on each device parameters 0.0 MiB, optimizer 0.0 MiB, moving average 0.0 MiB"
  assert said[2].startswith("denoise: step 4/4  loss ")
  assert said[3].endswith("going on from step 4 to step 6")


def test_a_trace_of_steps_that_do_not_come_is_told(toy, tmp_path, capsys):
  train(steps=4, profile=(5, 6), **toy.options("denoise", tmp_path))
  assert "nothing is traced: it goes from step 1 to 4, --profile begins at 5" in capsys.readouterr().err
  assert not (tmp_path / "profile").exists()
