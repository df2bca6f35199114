"""README's third command on a folder of fifty pictures, by the commands a person types."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from quick import QUICK

from dalle_jax import cli

pytestmark = pytest.mark.slow

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "pictures.py"
FEW = [word for stage in ("dvae", "transformer", "clip") for word in (f"--stages.{stage}.steps", "3")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Pictures of several sizes with a caption beside each, and one file that is no picture."""
  path, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
  for i in range(50):
    size = (40 + i, 50)
    colour = rng.integers(0, 256, 3)
    Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(path / f"{i:02d}.png")
    (path / f"{i:02d}.txt").write_text(f"picture number {i}, all in one colour\n")
  (path / "broken.png").write_bytes(b"no picture at all")
  (path / "broken.txt").write_text("a broken one\n")
  return path


def dalle(*argv):
  """What a command that goes well prints."""
  command = [sys.executable, "-m", "dalle_jax", *argv]
  done = subprocess.run(command, env=os.environ | QUICK, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_fifty_pictures_are_prepared_trained_on_and_drawn(folder, tmp_path):
  data, workdir = str(tmp_path / "data"), str(tmp_path / "run")
  assert "unreadable picture" in dalle("data", "prepare", str(folder), "--out", data)
  assert json.loads((tmp_path / "data/report.json").read_text())["dropped"]["unreadable picture"] == 1
  dalle("train", str(EXPERIMENT), "--data", data, "--size", "xs", "--workdir", workdir, *FEW)
  resolved = json.loads((tmp_path / "run/experiment.json").read_text())
  assert resolved["name"] == "pictures-xs"
  assert resolved["data"] == data
  dalle("sample", workdir, "picture number 7", "--num", "4", "--keep", "2")
  drawn = sorted((tmp_path / "run/samples").glob("*/0*.png"))
  assert len(drawn) == 2
  for file in drawn:
    with Image.open(file) as picture:
      assert picture.size == (32, 32)


def test_no_pictures_are_refused(capfd):
  assert cli.main(["train", str(EXPERIMENT), "--examples", "0", "--workdir", "nowhere"]) == 2
  assert "got --examples 0, wanted at least 1" in capfd.readouterr().err


def test_larger_sizes_learn_their_dvae_as_the_paper_did():
  from dalle_jax import experiment

  for size in ("s", "m"):
    found = experiment.load(EXPERIMENT, lambda signature, size=size: {"examples": 1000, "size": size})
    stage = found.stages["dvae"]
    assert (stage.objective.kl.end, stage.objective.temperature.start) == (6.6, 1.0)
    assert stage.objective.model.pool == "max"


def test_steps_follow_the_number_of_pictures():
  from dalle_jax import experiment

  def steps(count):
    found = experiment.load(EXPERIMENT, lambda signature: {"examples": count})
    return {name: stage.steps for name, stage in found.stages.items()}

  few, many = steps(1000), steps(10_000)
  assert all(many[name] == pytest.approx(10 * few[name], rel=0.01) for name in ("dvae", "transformer"))
  assert min(steps(1).values()) >= 300
