"""Goodput: every second of a run has a name, also over kills and restarts."""

import json
import time

import pytest

from dalle_jax.errors import StorageError
from dalle_jax.training import goodput
from dalle_jax.training.goodput import Goodput, read, summary


def start(begun, until, first, last, **seconds):
  return {"begun": begun, "until": until, "first": first, "last": last, "seconds": seconds}


def test_the_seconds_of_a_start_are_its_steps_and_what_was_named():
  found = summary([start(100.0, 160.0, 0, 50, compiling=8.0, saving=2.0)])
  assert found == {"steps": 50.0, "steps done again": 0.0, "compiling": 8.0, "saving": 2.0}


def test_steps_that_a_kill_took_away_and_the_time_between_starts_are_lost():
  killed = start(0.0, 30.0, 0, 20, compiling=10.0)  # 20 steps in 20 s, saved at step 15
  after = start(40.0, 60.0, 15, 30, compiling=5.0)
  found = summary([killed, after])
  assert found == {"steps": 15.0 + 15.0, "steps done again": 5.0, "compiling": 15.0, "down": 10.0}
  assert sum(found.values()) == 60.0


def test_a_start_that_goes_further_back_takes_more_of_the_one_before():
  starts = [start(0.0, 20.0, 0, 20), start(20.0, 25.0, 15, 20), start(25.0, 45.0, 10, 30)]
  found = summary(starts)
  assert found["steps done again"] == 10.0 + 5.0
  assert found["steps"] == 10.0 + 20.0


def test_records_are_kept_over_starts(tmp_path):
  for first in (0, 4):
    record = Goodput(tmp_path, first, begun=time.monotonic(), keep=True)
    with record.spent("saving"):
      time.sleep(0.02)
    record.step(first + 5)
    record.write()
  one, two = read(tmp_path)
  assert (one["first"], one["last"], two["first"], two["last"]) == (0, 5, 4, 9)
  assert one["seconds"]["saving"] >= 0.02
  assert two["begun"] >= one["until"]


def test_a_clock_that_is_set_forward_adds_nothing(tmp_path, monkeypatch):
  record, own = Goodput(tmp_path, 0, begun=time.monotonic(), keep=True), time.time
  monkeypatch.setattr(time, "time", lambda: own() + 86_400)
  record.step(1)
  record.write()
  assert sum(summary(read(tmp_path)).values()) < 60


def test_of_several_processes_one_writes(tmp_path):
  Goodput(tmp_path, 0, begun=time.monotonic(), keep=False).write()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"begun": 1}]', "null"])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path, text):
  (tmp_path / goodput.NAME).write_text(text)
  assert read(tmp_path) == []


def test_where_it_cannot_be_written_is_told(tmp_path):
  with pytest.raises(StorageError, match=r"cannot write .*goodput.json \(No such file"):
    Goodput(tmp_path / "gone", 0, begun=time.monotonic(), keep=True).write()


def test_a_run_that_goes_on_accounts_for_all_of_its_time(tmp_path, toy):
  begin = time.time()
  for steps in (6, 12):
    toy.train(**toy.options("denoise", tmp_path), steps=steps)
  took = time.time() - begin
  starts = read(tmp_path)
  assert [(each["first"], each["last"]) for each in starts] == [(0, 6), (6, 12)]
  found = summary(starts)
  assert {"starting", "compiling", "waiting for data", "saving", "steps"} <= found.keys()
  assert 0.6 * took < sum(found.values()) <= took
  assert json.loads((tmp_path / goodput.NAME).read_text()) == starts
