"""The lease of a workdir in a bucket: one job holds it, and a dead one's runs out."""

import contextlib
import json
import threading
import time

import pytest

from dalle_jax import places, processes
from dalle_jax.errors import UserError
from dalle_jax.training import lease, lock


@pytest.fixture
def workdir(bucket_environment, tmp_path, monkeypatch):
  monkeypatch.setattr(lease, "LASTS_S", 1.2)
  monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.3)
  return places.at(f"gs://bucket/{tmp_path.name}")


def left_by_the_dead(workdir, seconds):
  places.write(
    workdir / lease.NAME, json.dumps({"owner": "process 7 of there", "until": time.time() + seconds}).encode()
  )


def test_a_second_job_is_refused_while_the_first_lives_and_let_in_afterwards(workdir, capfd):
  with lock.held(workdir):
    begin = time.monotonic()
    with pytest.raises(UserError, match=rf"{workdir} is in use by process \d+ of .*: wait for it, or take another"):
      lock.held(workdir).__enter__()
    assert time.monotonic() - begin < 2 * lease.LASTS_S
    assert "waiting up to 1 s for the lease of process" in capfd.readouterr().err
    time.sleep(lease.LASTS_S)  # it is renewed for as long as it is held
    with pytest.raises(UserError, match="is in use by"):
      lock.held(workdir).__enter__()
  assert places.files(workdir) == {}
  with lock.held(workdir):
    pass


def test_a_dead_holders_lease_is_waited_for(workdir):
  left_by_the_dead(workdir, 0.8)
  begin = time.monotonic()
  with lock.held(workdir):
    assert 0.5 < time.monotonic() - begin < 10


def test_a_lease_that_ran_out_is_taken_at_once(workdir, capfd):
  left_by_the_dead(workdir, -1)
  with lock.held(workdir):
    assert capfd.readouterr().err == ""


def test_one_that_a_clock_ahead_wrote_is_not_waited_for_longer_than_it_lasts(workdir):
  left_by_the_dead(workdir, 86_400)
  begin = time.monotonic()
  with lock.held(workdir):
    assert time.monotonic() - begin < 10 * lease.LASTS_S


def test_a_lease_that_cannot_be_read_is_replaced(workdir):
  places.write(workdir / lease.NAME, b"no lease")
  with lock.held(workdir):
    assert json.loads((workdir / lease.NAME).read_bytes())["until"] > time.time()


def test_one_that_is_given_back_is_taken_up(workdir):
  first = contextlib.ExitStack()
  first.enter_context(lock.held(workdir))
  threading.Timer(0.1, first.close).start()
  with lock.held(workdir):
    assert places.files(workdir)


def test_of_two_who_come_at_once_one_gets_it(workdir):
  got, refused, ready = [], [], threading.Barrier(4)

  def take():
    ready.wait()
    try:
      with lease.held(workdir):
        got.append(1)
        time.sleep(2 * lease.LASTS_S)
    except UserError as error:
      refused.append(str(error))

  jobs = [threading.Thread(target=take) for _ in range(4)]
  for job in jobs:
    job.start()
  for job in jobs:
    job.join()
  assert len(got) == 1
  assert len(refused) == 3


def test_a_holder_who_loses_it_ends_at_once(workdir, monkeypatch, capfd):
  left = threading.Event()

  def leave(code):
    assert code == 88
    left.set()

  monkeypatch.setattr(processes, "leave", leave)
  with lease.held(workdir):
    left_by_the_dead(workdir, 100)
    assert left.wait(10)
  assert f"dalle: the lease of {workdir} is lost: another job has taken it; checkpoints are as they were" in (
    capfd.readouterr().err
  )
  assert "process 7 of there" in (workdir / lease.NAME).read_text()  # which is not given back
