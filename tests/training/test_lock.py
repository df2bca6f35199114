"""One job a workdir, and none for ever."""

import os
import subprocess
import sys

import pytest

from dalle_jax.errors import UserError
from dalle_jax.training import lock

HOLD = """
import sys, time
from pathlib import Path
from dalle_jax.training import lock
with lock.held(Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(60)
"""


def test_a_second_job_is_refused_and_the_first_ones_death_frees_the_workdir(tmp_path):
  with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as job:
    try:
      assert job.stdout.readline() == "held\n"
      with pytest.raises(UserError, match=f"in use by process {job.pid}"), lock.held(tmp_path):
        pass
    finally:
      job.kill()
  with lock.held(tmp_path):
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_ends_with_its_block(tmp_path):
  for _ in range(2):
    with lock.held(tmp_path / "new" / "workdir"):
      pass


def test_a_workdir_below_a_file_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with (
    pytest.raises(UserError, match=r"cannot write to .*Not a directory.*another --workdir"),
    lock.held(tmp_path / "file" / "run"),
  ):
    pass


def test_a_workdir_without_write_permission_is_one_line(tmp_path, unprivileged):
  tmp_path.chmod(0o500)
  with (
    unprivileged(),
    pytest.raises(UserError, match=r"cannot write to .*Permission denied"),
    lock.held(tmp_path / "run"),
  ):
    pass
