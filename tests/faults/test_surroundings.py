"""What happens around a run: bad disks, a clock that jumps, a second job, another experiment, bad pictures.

Each is told in one line, and nothing is lost.
"""

import contextlib
import gc
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import toy_run
from few import FEW
from PIL import Image
from quick import QUICK

from dalle_jax import cli
from dalle_jax.errors import StorageError
from dalle_jax.training import goodput, metrics
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.loop import train

STEPS = 24


@contextlib.contextmanager
def small_disk(place, size):
  """A file system of its own of so many bytes."""
  place.mkdir()
  if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True).returncode:
    pytest.skip("mounting is not permitted here")
  try:
    yield
  finally:
    subprocess.run(["umount", place], check=True)


def read_only(place, within_s=30):
  """Makes a mount read-only. The system refuses ("busy") for as long as a save has a file of it open for writing."""
  end = time.monotonic() + within_s
  while (done := subprocess.run(["mount", "-o", "remount,bind,ro", place], capture_output=True, text=True)).returncode:
    assert time.monotonic() < end, done.stderr
    time.sleep(0.01)


def at(step, do):
  """The toy's batches, and something that happens when one of them is read."""

  def batches(first):
    for number, batch in enumerate(toy_run.batches(toy_run.vectors, first), first):
      if number == step:
        do()
      yield batch

  return batches


def losses(workdir):
  return [row["loss"] for row in metrics.read(workdir / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The losses and the last weights of a run that nothing happens to."""
  workdir = tmp_path_factory.mktemp("whole")
  train(**toy_run.options("denoise", workdir), steps=STEPS)
  return losses(workdir), Checkpoints(workdir / "checkpoints").digest(STEPS)


def ends_as(whole, workdir):
  """Whether the same command ends with an untouched run's bits."""
  train(**toy_run.options("denoise", workdir), steps=STEPS)
  return (losses(workdir), Checkpoints(workdir / "checkpoints").digest(STEPS)) == whole


# Orbax leaves coroutines of a save that failed to an event loop that is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk(tmp_path, figure):
  workdir = tmp_path / "disk"
  with small_disk(workdir, "1400k"):
    with pytest.raises(StorageError) as info:
      train(**toy_run.options("denoise", workdir, keep=100, save_every=2), steps=400)
    good = Checkpoints(workdir / "checkpoints").good_steps()
    assert good
    line = str(info.value)
    assert f"checkpoint {good[-1]} is still good" in line or "checkpoints are as they were" in line
    assert "no space left" in line.lower()
    assert "\n" not in line
    for step in good:
      assert Checkpoints(workdir / "checkpoints").problem(step, contents=True) is None
    subprocess.run(["mount", "-o", "remount,size=64m", workdir], check=True)
    resumed = train(**toy_run.options("denoise", workdir, keep=100), steps=good[-1] + 4)  # with room it goes on
    assert int(resumed.step) == good[-1] + 4
  figure("a full disk during a run", f"exit code 88, one line; {len(good)} of {len(good)} earlier checkpoints good")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_becomes_read_only(whole, tmp_path, figure):
  workdir = tmp_path / "disk"
  with small_disk(workdir, "32m"):
    checkpoints = workdir / "checkpoints"
    checkpoints.mkdir()
    subprocess.run(["mount", "--bind", checkpoints, checkpoints], check=True)
    try:
      with pytest.raises(StorageError) as info:
        train(**toy_run.options("denoise", workdir, batches=at(9, lambda: read_only(checkpoints))), steps=STEPS)
      # The save of step 8 may be under way then.
      told = r"cannot save checkpoint (8|12) .*\(read-only file system\); checkpoint (4|8) is still good"
      assert re.match(told, str(info.value))
      assert "\n" not in str(info.value)
      with pytest.raises(StorageError, match=told):
        train(**toy_run.options("denoise", workdir), steps=STEPS)
    finally:
      subprocess.run(["umount", checkpoints], check=True)
    assert ends_as(whole, workdir)
  figure(
    "a disk that becomes read-only during a run", "exit code 88, one line; writable again: the untouched run's bits"
  )


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps(whole, tmp_path, monkeypatch, figure, jump):
  own, offset = time.time, [0.0]
  monkeypatch.setattr(time, "time", lambda: own() + offset[0])

  def now_it_jumps():
    offset[0] = jump

  train(**toy_run.options("denoise", tmp_path, batches=at(9, now_it_jumps)), steps=14)
  assert len(list((tmp_path / "tensorboard").glob("*"))) == 1
  assert ends_as(whole, tmp_path)
  assert Checkpoints(tmp_path / "checkpoints").good_steps()[-1] == STEPS
  first, _ = goodput.read(tmp_path)
  assert sum(goodput.summary([first]).values()) < 3600  # none of the jump
  figure(f"a clock that jumps by {jump / 3600:+.0f} h during a run", "the untouched run's bits")


def test_a_second_job_on_the_workdir(whole, tmp_path, figure):
  second = []

  def try_another():
    script = f"import sys; sys.argv = ['toy', 'denoise', {str(tmp_path)!r}, '{STEPS}']; import runpy; "
    script += f"runpy.run_path({toy_run.__file__!r}, run_name='__main__')"
    environment = os.environ | QUICK
    second.append(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment))

  train(**toy_run.options("denoise", tmp_path, batches=at(9, try_another)), steps=STEPS)
  (done,) = second
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert f"{tmp_path} is in use by process {os.getpid()}: wait for it, or take another --workdir" in line
  assert (losses(tmp_path), Checkpoints(tmp_path / "checkpoints").digest(STEPS)) == whole
  figure(
    "a second job on the workdir of one that runs", "refused in one line, exit code 2; the first one's bits unchanged"
  )


def contents(root):
  """SHA-256 of every file below, but for the lock and what XLA keeps."""
  kept = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
  return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept if "xla_cache" not in path.parts}


def test_another_experiment_on_a_workdir(demo_place, monkeypatch, capfd, figure):
  monkeypatch.chdir(demo_place)
  before = contents(demo_place / "run")
  argv = ["train", "demo.py", "--workdir", "run", "--data", "data", *FEW]
  gc.collect()  # a task of Orbax that an earlier test's bad disk ended is told of when it is collected: now
  capfd.readouterr()
  assert cli.main([*argv, "--stages.transformer.optimizer.clip", "7"]) == 2
  (line,) = capfd.readouterr().err.splitlines()
  assert line == (
    "dalle: run holds another experiment (stages.transformer.optimizer.clip: 4.0 -> 7.0): take another --workdir"
  )
  assert contents(demo_place / "run") == before
  figure("another experiment on a workdir", "refused in one line that names the field, exit code 2; no file changed")


def test_pictures_of_which_one_in_a_hundred_is_unreadable(tmp_path, monkeypatch, capfd, figure):
  seed, count = 0, 300
  rng, folder = random.Random(seed), tmp_path / "pictures"
  folder.mkdir()
  noise = np.random.default_rng(seed)
  for i in range(count):
    Image.fromarray(noise.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(folder / f"{i:03d}.png")
    (folder / f"{i:03d}.txt").write_text(f"picture number {i}")
  bad = sorted(rng.sample(range(count), count // 100))
  for i, how in zip(bad, ("cut", "noise", "empty")):
    file = folder / f"{i:03d}.png"
    data = file.read_bytes()
    file.write_bytes({"cut": data[: len(data) // 2], "noise": bytes(reversed(data)), "empty": b""}[how])
  monkeypatch.chdir(tmp_path)
  assert cli.main(["data", "prepare", "pictures", "--out", "data"]) == 0
  capfd.readouterr()
  dropped = [json.loads(line) for line in (tmp_path / "data/dropped.jsonl").read_text().splitlines()]
  assert sorted(int("".join(filter(str.isdigit, row["key"]))[-3:]) for row in dropped) == bad
  report = json.loads((tmp_path / "data/report.json").read_text())
  assert sum(report["splits"].values()) == count - len(bad)
  figure(f"{len(bad)} of {count} pictures unreadable", f"{len(bad)} left out, each named with its reason", [seed])
