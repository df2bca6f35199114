"""What the fault tests share: whether the goals are asked for, and the figures that docs/reliability.md tells."""

import json
import os
from pathlib import Path

import pytest

# Where the figures are written, a line of JSON each; FULL=1 asks for the goals and not the floors.
FIGURES = Path(os.environ.get("FIGURES", "runs/faults.jsonl"))
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
