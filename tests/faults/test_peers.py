"""A process that is dead, and one that is stuck: the others say so and are gone soon, with all that they started."""

import random
import signal
import time
from pathlib import Path

import pytest
from gang import ended, reached, rows, start

LIMIT = 6


def left_of(gang):
  """Processes of the gang's sessions: its own, and what they started."""
  sessions, found = {process.pid for process in gang}, []
  for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
      state, _, _, session = stat.read_text().rsplit(")", 1)[1].split()[:4]
    except OSError:
      continue
    if int(session) in sessions and state != "Z":
      found.append(int(stat.parent.name))
  return found


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_all_are_gone(tmp_path, figure, victim):
  seed = victim
  gang = start(2, tmp_path, steps=4000, CHILD="1")
  assert len(left_of(gang)) >= 2
  reached(gang, tmp_path, random.Random(seed).randint(6, 40))
  begin = time.monotonic()
  gang[victim].kill()
  codes, said = ended(gang, within=60)
  took = time.monotonic() - begin
  assert codes[victim] == -signal.SIGKILL
  assert codes[1 - victim] in (86, -signal.SIGABRT), said
  assert took < 15
  assert not left_of(gang)
  figure(
    f"process {victim} of 2 killed: the other one gone", f"after {took:.1f} s, exit code {codes[1 - victim]}", [seed]
  )


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_stuck_all_say_where_and_are_gone(tmp_path, figure, victim):
  gang = start(2, tmp_path, steps=4000, STUCK=f"{victim}:9", STEP_LIMIT=str(LIMIT), CHILD="1")
  reached(gang, tmp_path, 9)
  assert len(left_of(gang)) == 4  # two, with a child each
  begin = time.monotonic()
  codes, said = ended(gang, within=120)
  took = time.monotonic() - begin
  assert codes == [86, 86], said
  assert len(rows(tmp_path)) == 9
  assert f"process {victim} of 2: denoise: step 10 took more than {LIMIT} s (waiting for its batch)" in said[victim]
  assert "waiting for the devices" in said[1 - victim]
  assert "Thread" in said[victim]  # the stacks
  assert not any(line.startswith("Traceback") for text in said for line in text.splitlines())
  assert took < LIMIT + 5
  assert not left_of(gang)
  figure(
    f"process {victim} of 2 stuck, a step bound to {LIMIT} s: both gone, process and step named",
    f"{took:.1f} s after the step before",
  )
