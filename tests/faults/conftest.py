"""What the fault tests share: whether the goals are asked for, and the figures that docs/reliability.md tells."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from few import FEW
from quick import QUICK

from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.scenes_source import Scenes

ROOT = Path(__file__).parents[2]
# Where the figures are written, a line of JSON each; FULL=1 asks for the goals and not the floors.
FIGURES = Path(os.environ.get("FIGURES", "runs/faults.jsonl")).absolute()
FULL = os.environ.get("FULL", "") not in ("", "0")


def pytest_collection_modifyitems(items):
  for item in items:
    if Path(__file__).parent in item.path.parents:
      item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def goal():
  """Of a floor and a goal, the one that is asked for."""
  return lambda floor, goal: goal if FULL else floor


@pytest.fixture
def figure(request):
  """Notes a measured figure: what was done, what came of it, and with which seeds."""

  def note(fault, measured, seeds=()):
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    row = {"fault": fault, "measured": measured, "seeds": list(seeds), "test": request.node.name}
    with FIGURES.open("a") as file:
      file.write(json.dumps(row) + "\n")
    print(f"{fault}: {measured}")

  return note


@pytest.fixture(scope="session")
def demo_place(tmp_path_factory):
  """A directory with demo.py, its data (a few scenes), and run, a workdir of it after a few steps."""
  place = tmp_path_factory.mktemp("demo")
  shutil.copy(ROOT / "experiments/demo.py", place)
  prepare(Scenes(Config(image=32, train=96, valid=16, test=16, test_pairs=16)), place / "data")
  command = [sys.executable, "-m", "dalle_jax", "train", "demo.py", "--workdir", "run", "--data", "data", *FEW]
  environment = os.environ | QUICK
  done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  return place
