"""The SLURM script, submitted to a controller and two nodes that run here: preempted, requeued, the same bits."""

import sys
from pathlib import Path

import pytest
from slurm import waited_for

from dalle_jax.training import metrics
from dalle_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/support/toy_run.py"
STEPS = 400


def test_a_preempted_job_is_requeued_and_ends_with_the_same_bits(cluster, tmp_path):
  # In place of `dalle train EXPERIMENT --workdir DIR`: a toy, by the same door.
  stand_in = tmp_path / "dalle"
  stand_in.write_text(f'#!/bin/bash\nexec {sys.executable} {TOY} denoise "$4/denoise" {STEPS}\n')
  stand_in.chmod(0o755)

  def submitted(name):
    argv = ["sbatch", "--parsable", f"--export=ALL,DALLE={stand_in}", "--output", f"{name}.log"]
    return cluster(*argv, ROOT / "launch/slurm.sbatch", "toy.py", "--workdir", name).strip()

  def log(name):
    file = tmp_path / f"{name}.log"
    return file.read_text() if file.exists() else ""

  def told():
    return cluster("scontrol", "show", "jobs") + log("preempted")

  submitted("whole")
  waited_for(lambda: "start 0 ended with 0" in log("whole"))
  job = submitted("preempted")
  waited_for(lambda: len(metrics.read(tmp_path / "preempted/denoise/metrics.jsonl")) > 20)
  cluster("scancel", "-s", "TERM", f"{job}.0")
  waited_for(lambda: "start 0 ended with 75" in log("preempted"), told)
  saved = Checkpoints(tmp_path / "preempted/denoise/checkpoints").good_steps()[-1]
  assert saved < STEPS

  waited_for(lambda: "start 1 ended with 0" in log("preempted"), told)
  assert f"going on from step {saved} " in log("preempted")
  whole, preempted = (Checkpoints(tmp_path / name / "denoise/checkpoints") for name in ("whole", "preempted"))
  assert whole.digest(STEPS) == preempted.digest(STEPS)
