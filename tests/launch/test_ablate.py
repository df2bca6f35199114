"""A pack as an array of jobs on the SLURM that runs here: what comes before, a task for each run, the table."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import waited_for

from dalle_jax.ablations import scenes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/support/toy_pack.py"


def test_a_pack_runs_as_an_array_and_its_table_is_gathered(cluster, tmp_path):
  data = scenes.provided(tmp_path, "smoke", None, lambda what, done, total: None).path
  out = tmp_path / "out"
  words = [sys.executable, "-m", "dalle_jax", "ablate", TOY, "--scale", "smoke", "--seeds", "1", "--data", data]
  said = cluster(*words, "--out", out, "--launcher", "slurm", "--sbatch=--cpus-per-task=2", cwd=ROOT).splitlines()
  assert [line.split(": ")[1] for line in said] == [
    "what comes before",
    "3 runs, " + str(out / "slurm/runs.sh"),
    f"the tables, in {out}",
  ]
  tasks = [shlex.split(line) for line in (out / "slurm/runs.sh").read_text().splitlines()]
  assert [task[task.index("--only") + 1 :] for task in tasks] == [
    ["plain", "a bit more", "dies", "fails"],
    ["slow"],
    ["too fast"],
  ]

  def told():
    return cluster("scontrol", "show", "jobs") + "".join(log.read_text() for log in (out / "slurm").glob("*.log"))

  waited_for((out / "toy_pack/table.json").is_file, told, seconds=420)
  table = json.loads((out / "toy_pack/table.json").read_text())
  assert {row["arm"]: list(row["figures"]["loss"]["values"]) for row in table["arms"] if row["figures"]["loss"]} == {
    "plain": ["0"],
    "a bit more": ["0"],
    "slow": ["0"],
  }
  assert all(not row["missing"] for row in table["arms"])
  assert len(list((out / "slurm").glob("runs-*_*.log"))) == 3  # a task each
  # The same as without SLURM, which finds that all is done but what failed.
  before = (out / "toy_pack/table.json").read_bytes()
  (out / "toy_pack/table.json").unlink()
  subprocess.run([*map(str, words), "--out", str(out), "--part", "tables"], cwd=ROOT, check=False)
  assert (out / "toy_pack/table.json").read_bytes() == before
