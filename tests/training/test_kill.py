"""Processes that are killed: every stage goes on and ends with the bits of a run that nobody touched."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from quick import QUICK

from dalle_jax.training import metrics
from dalle_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "support/toy_run.py"
STEPS = 40
STAGES = ["denoise", "clip"]  # dVAE and transformer are killed, two processes of each, in tests/faults


def start(stage, workdir):
  environment = os.environ | QUICK
  command = [sys.executable, str(SCRIPT), stage, str(workdir), str(STEPS)]
  return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(stage, workdir):
  with start(stage, workdir) as process:
    said = process.stderr.read()
    assert process.wait() == 0, said
  return said


def steps_done(workdir):
  return len(metrics.read(workdir / "metrics.jsonl"))


def wait_for_steps(process, workdir, count):
  while steps_done(workdir) < count:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)


def bits(workdir):
  """Digests of the weights, and the whole state's, and the rows without what depends on the clock."""
  checkpoints = Checkpoints(workdir / "checkpoints")
  rows = [{k: v for k, v in row.items() if k != "timing"} for row in metrics.read(workdir / "metrics.jsonl")]
  states = {name: checkpoints._read_numpy(STEPS, name) for name in ("params", "opt", "ema", "counters")}
  return checkpoints.digest(), states, rows


def assert_same_bits(a, b):
  assert a[0] == b[0]
  assert a[2] == b[2]
  for name, arrays in a[1].items():
    assert arrays.keys() == b[1][name].keys()
    for path, array in arrays.items():
      np.testing.assert_array_equal(array, b[1][name][path], err_msg=f"{name}/{path}")


@pytest.fixture(scope="module", params=STAGES)
def whole(request, tmp_path_factory):
  """A stage, and the bits of its run when nobody touches it."""
  workdir = tmp_path_factory.mktemp(request.param)
  finish(request.param, workdir)
  return request.param, bits(workdir)


def test_sigterm_exits_75_and_the_same_command_ends_with_the_same_bits(whole, tmp_path):
  stage, wanted = whole
  with start(stage, tmp_path) as process:
    wait_for_steps(process, tmp_path, 7)
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    assert process.wait() == 75, said
  assert "Traceback" not in said
  saved = Checkpoints(tmp_path / "checkpoints").good_steps()[-1]
  assert f"saved step {saved}" in said.splitlines()[-1]
  assert saved < STEPS
  assert f"going on from step {saved} " in finish(stage, tmp_path)
  assert_same_bits(bits(tmp_path), wanted)


def test_sigkill_at_random_moments_costs_time_and_not_a_bit(whole, tmp_path):
  stage, wanted = whole
  chance = random.Random(stage)
  for share in (0.1, 0.4, 0.75):
    with start(stage, tmp_path) as process:
      wait_for_steps(process, tmp_path, int(share * STEPS))
      time.sleep(chance.uniform(0, 0.15))
      process.kill()
  assert "going on from step" in finish(stage, tmp_path)
  assert_same_bits(bits(tmp_path), wanted)


def test_a_kill_before_the_first_checkpoint_begins_again(whole, tmp_path):
  stage, wanted = whole
  if stage != "denoise":
    pytest.skip("one stage is enough: nothing of the model is involved")
  with start(stage, tmp_path) as process:
    wait_for_steps(process, tmp_path, 1)
    process.kill()
  finish(stage, tmp_path)
  assert_same_bits(bits(tmp_path), wanted)
