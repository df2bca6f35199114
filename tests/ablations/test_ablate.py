"""Packs as they run: arms share a run, fail, die or go out of bounds; one that is killed ends with the same table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quick import QUICK

from dalle_jax.ablations import scenes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/support/toy_pack.py"
ENV = os.environ | QUICK


def command(out, data, *more):
  argv = [sys.executable, "-m", "dalle_jax", "ablate", str(TOY), "--scale", "smoke", "--seeds", "2"]
  return [*argv, "--out", str(out), "--data", str(data), *more]


def ablate(out, data, *more):
  return subprocess.run(command(out, data, *more), capture_output=True, text=True, cwd=ROOT, env=ENV, check=False)


def table(out):
  """The table's bytes, and what is in it by arm."""
  text = (out / "toy_pack/table.json").read_text()
  return text, {row["arm"]: row for row in json.loads(text)["arms"]}


def stamps(out):
  """When each figure and each checkpoint was written."""
  files = [*out.glob("toy_pack/figures/*.json"), *out.glob("runs/*/*/checkpoints/*/manifest.json")]
  return {file: file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return scenes.provided(tmp_path_factory.mktemp("ablations"), "smoke", None, lambda what, done, total: None).path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
  """A pack run without a break, and what it said."""
  out = tmp_path_factory.mktemp("whole") / "out"
  return out, ablate(out, data)


def test_what_fails_is_reported_with_its_reason_and_the_rest_goes_on(whole):
  out, done = whole
  assert done.returncode == 1, done.stderr  # arms that fail otherwise than by going out of bounds
  rows = table(out)[1]
  assert set(rows["plain"]["figures"]["loss"]["values"]) == {"0", "1"}
  assert rows["dies"]["failed"]["0"] == (
    "its process was ended by SIGKILL, which the system sends where memory runs out"
  )
  assert rows["fails"]["failed"]["1"].startswith("RuntimeError: no figure in OUT/runs/")
  assert rows["too fast"]["diverged"] == [0, 1]
  assert "fails, seed 0: failed: RuntimeError" in (out / "toy_pack/table.md").read_text()


def test_the_verdicts_rest_on_a_control_that_is_told_apart(whole):
  found = json.loads(table(whole[0])[0])
  assert found["control"]["detected"]
  assert found["control"]["difference"]["low"] > 0
  assert [each["verdict"] for each in found["verdicts"]] == ["agrees", "agrees", "no verdict"]


def test_arms_of_equal_experiments_share_a_run_and_stages_before_are_trained_once(whole):
  out = whole[0]
  rows = table(out)[1]
  plain, more = (rows[name]["figures"]["loss"]["values"] for name in ("plain", "a bit more"))
  assert more == {seed: pytest.approx(value + 0.001, abs=1e-9) for seed, value in plain.items()}
  assert plain["0"] != plain["1"]
  assert len(list(out.glob("runs/*/experiment.json"))) == 2 * 3  # plain with its three readers, slow, too fast
  assert len(list(out.glob("shared/*/experiment.json"))) == 1
  assert len(list(out.glob("codes/*/codes.json"))) == 2  # of each seed's crops


def test_nothing_that_is_done_is_done_again(whole, data):
  out = whole[0]
  before = stamps(out)
  again = ablate(out, data)
  assert "run 1 of 2: dies, fails, seed 0" in again.stderr  # what went wrong in another way may go well this time
  kept = {file for file in before if file.name.startswith(("dies", "fails"))}
  after = stamps(out)
  assert {file: time for file, time in before.items() if file not in kept} == {
    file: time for file, time in after.items() if file not in kept
  }


def test_a_pack_that_is_killed_on_its_way_ends_with_the_same_table(whole, data, tmp_path):
  out = tmp_path / "killed"
  quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
  with subprocess.Popen(command(out, data), cwd=ROOT, env=ENV, **quiet) as begun:
    until = time.monotonic() + 240
    # In the middle of the second run: it has saved once.
    while len({file.parents[3] for file in out.glob("runs/*/transformer/checkpoints/*/manifest.json")}) < 2:
      assert time.monotonic() < until
      assert begun.poll() is None
      time.sleep(0.02)
    begun.send_signal(signal.SIGKILL)
  assert not (out / "toy_pack/table.json").exists()
  done = ablate(out, data)
  assert done.returncode == 1, done.stderr
  assert (out / "toy_pack/table.json").read_bytes() == (whole[0] / "toy_pack/table.json").read_bytes()
  assert (out / "toy_pack/table.md").read_bytes() == (whole[0] / "toy_pack/table.md").read_bytes()


def test_the_paper_s_scale_is_refused_where_there_are_too_few_devices(data, tmp_path):
  argv = [sys.executable, "-m", "dalle_jax", "ablate", "last_layer", "--scale", "paper", "--data", str(data)]
  done = subprocess.run(
    [*argv, "--out", str(tmp_path / "out")], capture_output=True, text=True, cwd=ROOT, env=ENV, check=False
  )
  assert done.returncode == 2
  assert "dalle plan experiments/dalle_12b.py --topology v5p:4x4x4 --stage transformer" in done.stdout
  assert done.stderr.startswith("dalle: last_layer at scale paper: ")
  assert "16" in done.stderr
  assert done.stderr.count("\n") == 1
  assert not list(tmp_path.glob("out/*/*"))
