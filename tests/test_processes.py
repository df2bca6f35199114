"""How a process finds the others, what it says when it can't, and the launcher that starts several here."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dalle_jax import processes
from dalle_jax.errors import PeerLost, UserError
from dalle_jax.processes import Processes
from dalle_jax.training import watchdog

ROOT = Path(__file__).parents[1]
TOLD = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
  for name in (*TOLD, "SLURM_STEP_NODELIST", "SLURM_NTASKS"):
    monkeypatch.delenv(name, raising=False)


def test_one_process_joins_nobody():
  assert processes._told(Processes()) is None
  processes.join(Processes())
  assert not processes.several()
  assert (processes.index(), processes.name()) == (0, "")


def test_flags_come_before_the_environment(monkeypatch):
  for name, value in zip(TOLD, ("10.0.0.1:5000", "4", "3"), strict=True):
    monkeypatch.setenv(name, value)
  assert processes._told(Processes()) == ("10.0.0.1:5000", 4, 3)
  assert processes._told(Processes(index=0, coordinator="[::1]:77")) == ("[::1]:77", 4, 0)


def test_an_address_alone_is_some_scheduler_s_and_says_nothing(monkeypatch):
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:5000")
  assert processes._told(Processes()) is None


@pytest.mark.parametrize(
  ("given", "words"),
  [
    (Processes(coordinator="a:1", count=2), "each needs --processes.index as well"),
    (Processes(count=2, index=1), "each needs --processes.coordinator as well"),
    (Processes(coordinator="localhost", count=2, index=0), "wanted HOST:PORT of process 0"),
    (Processes(coordinator="a:1", count=2, index=2), "got process 2 of 2"),
    (Processes(coordinator="a:1", count=0, index=0), "got process 0 of 0"),
    (Processes(coordinator="a:1", count=2, index=-1), "got process -1 of 2"),
  ],
)
def test_what_can_t_be_is_refused(given, words):
  with pytest.raises(UserError, match=words):
    processes.join(given)


def test_nobody_at_the_coordinator_s_address_is_one_line():
  with pytest.raises(PeerLost, match=r"^nobody answers at --processes.coordinator 127.0.0.1:1 .Connection refused."):
    processes.join(Processes(coordinator="127.0.0.1:1", count=2, index=1, patience=1))


def test_a_port_that_is_taken_or_none_is_one_line():
  with socket.socket() as taken:
    taken.bind(("", 0))
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=rf"^--processes.coordinator localhost:{port}: its port can't be used"):
      processes.join(Processes(coordinator=f"localhost:{port}", count=2, index=0))
  with pytest.raises(UserError, match=r"its port can't be used .*0-65535"):
    processes.join(Processes(coordinator="localhost:99999", count=2, index=0))


def test_a_limit_of_no_seconds_is_refused():
  with pytest.raises(UserError, match=r"got --processes.step_limit 0.0, wanted a number of seconds above 0"):
    Processes(step_limit=0.0)


def test_a_count_of_one_joins_nobody_whatever_slurm_says(monkeypatch):
  monkeypatch.setenv("SLURM_STEP_NODELIST", "n1")
  monkeypatch.setenv("SLURM_NTASKS", "2")
  processes.join(Processes(coordinator="a:1", count=1, index=0))
  assert not processes.several()


@pytest.mark.parametrize(
  ("tasks", "gpus", "visible", "wanted"),
  [
    ("1(x4)", "8", None, list(range(8))),
    ("1", "8", "0,1", [0, 1]),
    ("8(x4)", "8", None, None),
    ("1(x2)", None, None, None),
  ],
)
def test_a_node_s_one_task_takes_all_of_its_gpus(monkeypatch, tasks, gpus, visible, wanted):
  given = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_GPUS_ON_NODE": gpus, "CUDA_VISIBLE_DEVICES": visible}
  for name, value in given.items():
    monkeypatch.delenv(name, raising=False)
    if value is not None:
      monkeypatch.setenv(name, value)
  assert processes._slurm_devices() == wanted


def test_slurm_with_one_task_is_one_process(monkeypatch):
  monkeypatch.setenv("SLURM_STEP_NODELIST", "n1")
  monkeypatch.setenv("SLURM_NTASKS", "1")
  assert not processes._by_slurm()
  monkeypatch.setenv("SLURM_NTASKS", "2")
  assert processes._by_slurm()


def test_the_watchdog_gives_the_first_step_more_time_and_starts_anew_with_each():
  dog = watchdog.Watchdog("dvae", 10.0)
  dog.step(21, "waiting for its batch")
  begin = dog._state[2]
  assert dog.overdue(begin + 39) is None
  assert dog.overdue(begin + 41)
  dog.step(22, "waiting for its batch")
  begin = dog._state[2]
  dog.now("saving")
  assert dog.overdue(begin + 9) is None
  said = dog.overdue(begin + 11)
  assert "dvae: step 22 took more than 10 s (saving)" in said
  assert "--processes.step_limit" in said


# The launcher.

# A stand-in for `dalle train` that ends as it is told: each start takes the next code of a file.
ENDS = """
import os, pathlib, signal, sys, time
here = pathlib.Path(sys.argv[-1])
index = os.environ["JAX_PROCESS_ID"]
(here / f"started-{index}").open("a").write(os.environ["JAX_COORDINATOR_ADDRESS"] + "\\n")
if index == "1":
  time.sleep(1000 if (here / "wait").exists() else 0.3)
codes = (here / "codes").read_text().split()
(here / "codes").write_text(" ".join(codes[1:]))
if codes[0] == "kill":
  os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(codes[0]))
"""


def launched(tmp_path, codes, *flags, wait=True, script=ENDS):
  """The launcher over a package whose `train` ends with these codes, one after the other."""
  (tmp_path / "dalle_jax").mkdir()
  (tmp_path / "dalle_jax/__init__.py").touch()
  (tmp_path / "dalle_jax/__main__.py").write_text(script)
  (tmp_path / "codes").write_text(" ".join(codes))
  if wait:
    (tmp_path / "wait").touch()
  command = [sys.executable, str(ROOT / "launch/local.py"), "-n", "2", "--pause", "0.1", *flags]
  command += ["x.py", "--workdir", str(tmp_path)]
  return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)


def test_the_launcher_starts_again_what_was_preempted_lost_or_killed(tmp_path):
  with launched(tmp_path, ["75", "86", "kill", "2"]) as process:
    said = process.stderr.read()
    assert process.wait(timeout=60) == 2
  assert [line for line in said.splitlines() if "ended with" in line] == [
    "launch: ended with 75; starting again in 0.2 s",
    "launch: ended with 86; starting again in 0.4 s",
    "launch: ended with -9; starting again in 0.8 s",
  ]
  started = (tmp_path / "started-1").read_text().split()
  assert len(started) == 4
  assert started == (tmp_path / "started-0").read_text().split()  # both were told the same address


def test_of_several_that_end_together_the_launcher_tells_the_one_that_says_most(tmp_path):
  script = ENDS.replace('if index == "1":', 'if index == "1":\n  sys.exit(2)\nif False:')
  with launched(tmp_path, ["86", "0"], script=script) as process:
    assert process.wait(timeout=60) == 2
  assert len((tmp_path / "started-0").read_text().split()) == 1


def test_a_second_signal_ends_processes_that_do_not_hear_the_first(tmp_path):
  script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ENDS.replace('index == "1"', "True")
  with launched(tmp_path, ["0"], script=script) as process:
    until = time.monotonic() + 60
    while not all((tmp_path / f"started-{index}").exists() for index in (0, 1)):
      assert time.monotonic() < until
      time.sleep(0.02)
    for _ in range(2):
      process.send_signal(signal.SIGTERM)
      time.sleep(0.3)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_the_launcher_gives_up_after_five_starts_without_a_new_checkpoint(tmp_path):
  with launched(tmp_path, ["86"] * 20, "--pause", "0.01") as process:
    said = process.stderr.read()
    assert process.wait(timeout=60) == 86
  assert "given up after 5 restarts without a new checkpoint; the last exit code was 86" in said
  assert len((tmp_path / "started-0").read_text().split()) == 6


def test_the_launcher_ends_with_all_its_processes(tmp_path):
  with launched(tmp_path, ["0", "0"], wait=False) as process:
    assert process.wait(timeout=60) == 0


def test_no_process_outlives_the_launcher(tmp_path):
  script = ENDS.replace('if index == "1":', "(here / f'pid-{index}').write_text(str(os.getpid()))\nif True:")
  process = launched(tmp_path, ["0"], script=script)
  files = [tmp_path / f"pid-{index}" for index in (0, 1)]
  until = time.monotonic() + 60
  while not all(file.exists() and file.read_text() for file in files):
    assert time.monotonic() < until
    time.sleep(0.02)
  pids = [int(file.read_text()) for file in files]
  os.kill(process.pid, signal.SIGKILL)
  process.communicate()
  while any(Path(f"/proc/{pid}").exists() for pid in pids):
    assert time.monotonic() < until
    time.sleep(0.02)


def test_an_error_of_another_type_can_be_a_loss_and_our_own_are_none(monkeypatch):
  assert not processes.is_loss(ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"))
  monkeypatch.setattr(processes, "_joined", True)
  assert processes.is_loss(ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"))
  assert not processes.is_loss(ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes"))
  assert not processes.is_loss(UserError("lost another process (Gloo AllGather failed)"))
