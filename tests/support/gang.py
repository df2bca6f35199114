"""Processes of toy_run.py that train together, and what they leave: for the tests that disturb them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from quick import QUICK

from dalle_jax.training import metrics

SCRIPT = Path(__file__).parent / "toy_run.py"


def start(count, workdir, stage="denoise", steps=40, devices=1, **environment):
  """`count` processes that train together, each on `devices` simulated devices."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  flags = f"{QUICK['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
  given = QUICK | {"XLA_FLAGS": flags} | environment
  told = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
  command = [sys.executable, str(SCRIPT), stage, str(workdir), str(steps)]
  return [
    subprocess.Popen(
      command,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | given | told | {"JAX_PROCESS_ID": str(index)},
      start_new_session=True,
    )
    for index in range(count)
  ]


def ended(gang, within):
  """Exit codes and what each process said, once all have ended. How soon they do is for tests/faults."""
  begin = time.monotonic()
  try:
    said = [process.communicate(timeout=max(0.1, begin + within - time.monotonic()))[1] for process in gang]
  finally:
    for process in gang:
      process.kill()
  return [process.returncode for process in gang], said


def finished(*args, **options):
  """What the processes said, all of which end well."""
  codes, said = ended(start(*args, **options), within=400)
  assert set(codes) == {0}, said
  return said


def rows(workdir):
  """The rows of metrics that are there."""
  return metrics.read(Path(workdir) / "metrics.jsonl")


def losses(workdir):
  """The loss of every step that was written."""
  return np.array([row["loss"] for row in rows(workdir)])


def reached(gang, workdir, count):
  """Waits until so many steps are done."""
  until = time.monotonic() + 300
  while len(rows(workdir)) < count:
    assert time.monotonic() < until
    assert all(process.poll() is None for process in gang), ended(gang, within=5)
    time.sleep(0.01)
