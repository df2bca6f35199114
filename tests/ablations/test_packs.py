"""Every pack that comes with the project runs: two updates an arm, of models as small as they get."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quick import QUICK

from dalle_jax.ablations import packs
from dalle_jax.commands.ablate import GROUPS
from dalle_jax.pack_files import files

pytestmark = [pytest.mark.slow, pytest.mark.packs]

ROOT = Path(__file__).parents[2]
ENV = os.environ | QUICK


@pytest.fixture(scope="session")
def together(tmp_path_factory, worker_id):
  """A directory that all packs share, with what they have in common; of all of pytest's processes."""
  own = tmp_path_factory.getbasetemp()
  return (own if worker_id == "master" else own.parent) / "packs"


@pytest.mark.parametrize("group", GROUPS)
def test_the_packs_of_a_group_run(group, together):
  argv = [sys.executable, "-m", "dalle_jax", "ablate", group, "--scale", "smoke", "--seeds", "1"]
  done = subprocess.run([*argv, "--out", str(together)], capture_output=True, text=True, cwd=ROOT, env=ENV, check=False)
  assert done.returncode == 0, done.stdout + done.stderr[-2000:]
  names = [file.stem for file in files(ROOT / "experiments/ablations") if packs.load(file).pack.group == group]
  assert names
  for name in names:
    table = json.loads((together / name / "table.json").read_text())
    for row in table["arms"]:
      assert not row["missing"]
      assert not row["failed"]
      for metric in (table["metric"], *table["also"]):
        assert all(math.isfinite(value) for value in row["figures"][metric["name"]]["values"].values())
    for picture in ("table.md", "how.md", "plot-light.png", "plot-dark.png"):
      assert (together / name / picture).stat().st_size > 100
