"""Batches that a run passes over, because training on them was stopped.

WORKDIR/STAGE/unhealthy.json   the steps whose updates, left out in a row, stopped the run
WORKDIR/STAGE/left_out.json    the steps that are passed over from now on, in every start of the run
"""

import json
from collections.abc import Sequence
from pathlib import Path

STOPPED, PASSED = "unhealthy.json", "left_out.json"


def steps(workdir: Path) -> frozenset[int]:
  """The steps that are passed over."""
  return frozenset(_read(workdir / PASSED))


def noted(workdir: Path) -> bool:
  """Whether steps stopped the run, or are passed over."""
  return bool(_read(workdir / STOPPED) or _read(workdir / PASSED))


def record(workdir: Path, offending: Sequence[int]) -> None:
  """Notes the steps that stopped the run."""
  _write(workdir / STOPPED, offending)


def roll_back(workdir: Path) -> list[int]:
  """Takes note that the steps which stopped the run are to be passed over, and returns them; none if nothing did."""
  offending = _read(workdir / STOPPED)
  if offending:
    _write(workdir / PASSED, sorted({*_read(workdir / PASSED), *offending}))
    (workdir / STOPPED).unlink()
  return offending


def _read(file: Path) -> list[int]:
  return json.loads(file.read_text())["steps"] if file.is_file() else []


def _write(file: Path, numbers: Sequence[int]) -> None:
  scratch = file.with_name(f".{file.name}")
  scratch.write_text(json.dumps({"steps": list(numbers)}) + "\n")
  scratch.replace(file)
