"""Several processes that are really there: the same losses as one, and none is left when one of them goes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dalle_jax.training import metrics
from dalle_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "toy_run.py"
STEPS = 40


def start(count, workdir, stage="denoise", steps=STEPS, devices=1, **environment):
  """`count` processes that train together, each on `devices` simulated devices."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  given = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"} | environment
  told = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
  command = [sys.executable, str(SCRIPT), stage, str(workdir), str(steps)]
  return [
    subprocess.Popen(
      command, stderr=subprocess.PIPE, text=True, env=os.environ | given | told | {"JAX_PROCESS_ID": str(index)}
    )
    for index in range(count)
  ]


def ended(gang, within):
  """Exit codes and what each process said, once all have ended. How soon they do is for tests/faults."""
  begin = time.monotonic()
  try:
    said = [process.communicate(timeout=max(0.1, begin + within - time.monotonic()))[1] for process in gang]
  finally:
    for process in gang:
      process.kill()
  return [process.returncode for process in gang], said


def finished(*args, **options):
  codes, said = ended(start(*args, **options), within=400)
  assert set(codes) == {0}, said
  return said


def rows(workdir):
  return metrics.read(Path(workdir) / "metrics.jsonl")


def losses(workdir):
  return np.array([row["loss"] for row in rows(workdir)])


def reached(gang, workdir, count):
  """Waits until so many steps are done."""
  until = time.monotonic() + 300
  while len(rows(workdir)) < count:
    assert time.monotonic() < until
    assert all(process.poll() is None for process in gang), ended(gang, within=5)
    time.sleep(0.01)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  """What one process computes on as many simulated devices."""
  found = {}
  for devices in (2, 4):
    workdir = tmp_path_factory.mktemp(f"one-{devices}")
    finished(1, workdir, devices=devices)
    found[devices] = losses(workdir)
  return found


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_have_one_s_losses_and_one_of_them_speaks(one, tmp_path, count):
  said = finished(count, tmp_path)
  np.testing.assert_allclose(losses(tmp_path), one[count], rtol=1e-5)
  assert f"on {count} cpu of {count} processes" in said[0]
  assert not any("denoise:" in text for text in said[1:])
  assert len(rows(tmp_path)) == STEPS


def test_a_checkpoint_of_four_goes_on_in_two_and_in_one(one, tmp_path):
  finished(4, tmp_path, steps=20)
  said = finished(2, tmp_path, steps=30)
  assert "going on from step 20" in said[0]
  said = finished(1, tmp_path)
  assert "going on from step 30" in said[0]
  np.testing.assert_allclose(losses(tmp_path), one[4], rtol=1e-5)


@pytest.mark.parametrize("victim", [0, 3])
def test_sigterm_to_any_one_saves_the_same_step_in_all(tmp_path, victim):
  gang = start(4, tmp_path, steps=4000)
  reached(gang, tmp_path, 6)
  gang[victim].send_signal(signal.SIGTERM)
  codes, said = ended(gang, within=240)
  assert codes == [75] * 4, said
  saved = Checkpoints(tmp_path / "checkpoints").good_steps()[-1]
  assert all(f"saved step {saved}:" in text for text in said)
  assert len(rows(tmp_path)) == saved


def test_a_batch_that_is_bad_in_one_of_them_is_left_out_in_all(tmp_path):
  finished(2, tmp_path / "bad", BAD="1:9")
  finished(2, tmp_path / "good", steps=9)
  skipped = [row["skipped"] for row in rows(tmp_path / "bad")]
  assert skipped == [int(step == 10) for step in range(1, STEPS + 1)]
  assert rows(tmp_path / "bad")[9]["loss"] is None
  finished(2, tmp_path / "bad-10", steps=10, BAD="1:9")
  before, after = (Checkpoints(tmp_path / name / "checkpoints") for name in ("good", "bad-10"))
  for item in ("params", "opt", "ema"):
    ours, theirs = before.read(9, item), after.read(10, item)
    assert all(ours[path].tobytes() == theirs[path].tobytes() for path in ours)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_all_end(tmp_path, victim):
  gang = start(2, tmp_path, steps=4000)
  reached(gang, tmp_path, 6)
  gang[victim].kill()
  codes, said = ended(gang, within=240)
  assert codes[victim] == -signal.SIGKILL
  assert codes[1 - victim] in (86, -signal.SIGABRT), said


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_stuck_all_say_where_and_end(tmp_path, victim):
  gang = start(2, tmp_path, steps=4000, STUCK=f"{victim}:9", STEP_LIMIT="6")
  reached(gang, tmp_path, 8)
  codes, said = ended(gang, within=240)
  assert codes == [86, 86], said
  assert "step 10 took more than 6 s (waiting for its batch)" in said[victim]
  assert f"process {victim} of 2: denoise: step 10 " in said[victim]
  assert "waiting for the devices" in said[1 - victim]
  assert "Thread" in said[victim]  # the stacks
  assert not any(line.startswith("Traceback") for text in said for line in text.splitlines())
