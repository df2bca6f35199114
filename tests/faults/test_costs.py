"""What surviving costs on the demo: the share of the time that saves take, and the time from a restart to a step."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from few import FEW

from dalle_jax.training import goodput, metrics

ROOT = Path(__file__).parents[2]
STEPS = 200


def start(place, workdir, *flags):
  train = ("train", "demo.py", "--workdir", workdir, "--data", "data")
  command = [sys.executable, "-m", "dalle_jax", *train, *FEW, *flags]
  environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def flags(demo_place):
  """More steps of the demo's transformer, from the dVAE and the codes that are there."""
  return ("--transformer-steps", str(STEPS), "--only", "transformer", "--stages.transformer.log_every", "1")


def test_saves_take_little_of_the_steps_time(demo_place, flags, figure, goal):
  """Every 100 steps, ten times as often as the demo does and as runs do that are not told when."""
  dvae = ("--stages.dvae.from", "run", "--stages.dvae.frozen", "True")
  done = start(demo_place, "saves", *flags, *dvae, "--stages.transformer.save_every", "100")
  said = done.communicate()[1]
  assert done.returncode == 0, said
  (one,) = goodput.read(demo_place / "saves/transformer")
  found = goodput.summary([one])
  share = found["saving"] / (found["steps"] + found["saving"])
  figure("share of the demo's transformer steps that saves every 100 steps hold up", f"{100 * share:.1f} %")
  assert share <= goal(0.05, 0.02)


def test_a_restart_is_soon_at_its_first_step(demo_place, flags, figure, goal):
  """From the command to the first new line of metrics, programs compiled before; the median of three."""
  dvae = ("--stages.dvae.from", "run", "--stages.dvae.frozen", "True")
  argv = ("restarted", *flags, *dvae, "--stages.transformer.save_every", "10")
  rows = demo_place / "restarted/transformer/metrics.jsonl"
  first = start(demo_place, *argv)
  until = time.monotonic() + 300
  while len(metrics.read(rows)) < 12 or not list(rows.parent.glob("checkpoints/*/manifest.json")):
    assert time.monotonic() < until
    time.sleep(0.05)
  first.kill()
  first.communicate()
  took = []
  for _ in range(3):
    saved = max(int(path.parent.name) for path in rows.parent.glob("checkpoints/*/manifest.json"))
    begin = time.monotonic()
    again = start(demo_place, *argv)
    while True:
      found = metrics.read(rows)
      if found and found[-1]["step"] > saved and rows.stat().st_mtime > time.time() - (time.monotonic() - begin):
        break
      assert again.poll() is None, again.communicate()[1]
      time.sleep(0.01)
    took.append(time.monotonic() - begin)
    again.kill()
    again.communicate()
  figure(
    "seconds from a restart's command to its first step, of the demo's transformer", f"{statistics.median(took):.1f} s"
  )
  assert statistics.median(took) <= goal(20, 12)
