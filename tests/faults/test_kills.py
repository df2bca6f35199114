"""Random SIGKILLs of random processes of a run of two, some inside a save: it ends with an untouched run's bits.

The demo's dVAE stage, with flips, and its transformer stage, on pixels in stage-2 crops with BPE dropout.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quick import QUICK

from dalle_jax.training import metrics
from dalle_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "tests/support/demo_for_kills.py"
STAGES = ("dvae", "transformer")
ITEMS = ("params", "opt", "ema", "counters")


def launched(place, workdir):
  """A run of two processes that start again when one of them is killed."""
  command = [sys.executable, str(ROOT / "launch/local.py"), "-n", "2", "--pause", "0.1", str(EXPERIMENT)]
  environment = os.environ | QUICK
  with (place / f"{workdir}.log").open("w") as said:
    return subprocess.Popen([*command, "--workdir", workdir], cwd=place, env=environment, stdout=said, stderr=said)


def members(launcher):
  """The processes that the launcher runs now."""
  found = []
  for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
      parent = stat.read_text().rsplit(")", 1)[1].split()[1]
    except OSError:
      continue
    if int(parent) == launcher.pid:
      found.append(int(stat.parent.name))
  return sorted(found)


def steps_done(workdir):
  """How many lines of metrics all stages have."""
  return sum(len(metrics.read(workdir / stage / "metrics.jsonl")) for stage in STAGES)


def unfinished(workdir):
  """Saves that are under way or were left behind: steps that Orbax writes, and those without their manifest."""
  found = set()
  for stage in STAGES:
    for path in (workdir / stage / "checkpoints").glob("*"):
      if ".orbax-checkpoint-tmp" in path.name or (path.name.isdecimal() and not (path / "manifest.json").exists()):
        found.add((path.name.split(".")[0], inode(path)))
  return found


def inode(path):
  """What tells a directory from a later one of its name."""
  try:
    return path.stat().st_ino
  except OSError:
    return 0


def waited(launcher, what, seconds=300):
  """Waits for something; False where the run ended first."""
  until = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < until, "nothing came of it"
    if launcher.poll() is not None:
      return False
    time.sleep(0.004)
  return True


def kill_one(launcher, workdir, rng, in_a_save):
  """Kills one of the run's processes at a random moment; whether it was there, and whether a save was under way."""
  if not waited(launcher, lambda: len(members(launcher)) == 2):
    return False, False
  gang, before, left_behind = members(launcher), steps_done(workdir), unfinished(workdir)
  if in_a_save:
    alive = waited(launcher, lambda: unfinished(workdir) - left_behind)
  elif rng.random() < 0.2:
    time.sleep(rng.uniform(0, 10))  # while they start
    alive = launcher.poll() is None
  else:
    wanted = before + rng.randint(1, 12)
    alive = waited(launcher, lambda: steps_done(workdir) >= wanted or members(launcher) != gang)
  was_saving = alive and (in_a_save or bool(unfinished(workdir) - left_behind))
  victim = rng.choice(gang)
  try:
    os.kill(victim, signal.SIGKILL)
  except ProcessLookupError:
    return False, False
  waited(launcher, lambda: members(launcher) != gang)
  return alive, was_saving


def bits(workdir, stage):
  """SHA-256 of a finished stage's state, and of its rows without what depends on the clock."""
  checkpoints = Checkpoints(workdir / stage / "checkpoints")
  step, sha = checkpoints.good_steps()[-1], hashlib.sha256()
  for item in ITEMS:
    for path, array in sorted(checkpoints.read(step, item).items()):
      sha.update(f"{item} {path} {array.dtype} {array.shape}".encode() + array.tobytes())
  rows = [{k: v for k, v in row.items() if k != "timing"} for row in metrics.read(workdir / stage / "metrics.jsonl")]
  return step, sha.hexdigest(), hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@pytest.fixture(scope="module")
def whole(demo_place):
  """What a run that nobody touches ends with."""
  assert launched(demo_place, "whole").wait() == 0, (demo_place / "whole.log").read_text()[-2000:]
  return {stage: bits(demo_place / "whole", stage) for stage in STAGES}


@pytest.mark.timeout(2400)  # two whole runs, and two processes that start anew at each kill
def test_a_run_whose_processes_are_killed_ends_with_the_same_bits(demo_place, whole, figure, goal):
  seeds, per_run = goal([0], [0, 1, 2]), int(os.environ.get("KILLS") or goal(20, 34))
  kills, in_saves, in_first, runs = 0, 0, 0, 0
  for seed in seeds:
    rng, left = random.Random(seed), per_run
    while left > 0:  # a run that was killed too seldom is done again
      workdir = demo_place / f"killed-{seed}-{runs}"
      runs += 1
      launcher = launched(demo_place, workdir.name)
      try:
        while launcher.poll() is None and left > 0:
          first = not (workdir / "transformer").exists()
          killed, was_saving = kill_one(launcher, workdir, rng, in_a_save=kills % 3 == 2)
          kills, left = kills + killed, left - killed
          in_saves, in_first = in_saves + was_saving, in_first + (killed and first)
        code = launcher.wait(timeout=600)
      finally:
        launcher.kill()
      assert code == 0, (demo_place / f"{workdir.name}.log").read_text()[-3000:]
      assert {stage: bits(workdir, stage) for stage in STAGES} == whole
  assert kills >= per_run * len(seeds)
  assert in_saves >= kills // 4
  assert in_first >= min(5, per_run // 2)
  figure(
    "SIGKILLs of one of 2 processes: bits of parameters, optimizer, average, counters, rows as an untouched run's",
    f"{kills} kills in {runs} runs ({in_saves} inside a save, {in_first} in the dVAE's stage): equal",
    seeds,
  )
