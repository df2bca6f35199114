#!/usr/bin/env python3
"""Several processes of one training run on this machine: python launch/local.py -n 2 EXPERIMENT --workdir DIR [FLAGS].

Each runs `dalle train EXPERIMENT --workdir DIR FLAGS` and finds the others through its environment. When one ends, all
end within seconds. A run that was preempted (75), lost a process (86) or was killed by a signal is started again, and
goes on from its last checkpoint; after five times in a row without a new one it is given up.

Exit code: 0 done, or what ended the first process. SIGTERM and Ctrl-C go to all, which save after their step, and
nothing starts again; a second one kills them.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

from dalle_jax import places

AGAIN = (75, 86)
FINAL = (2, 87, 88)
MOST = 5
GRACE = 1.0
LONGEST_PAUSE = 60.0


def main(argv: list[str]) -> int:
  """Starts the gang, and starts it again while that helps. Returns the exit code."""
  own, rest = _flags(argv)
  asked: list[int] = []
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: asked.append(number))
  found, fruitless = _good_steps(own.workdir), 0
  while True:
    code = _gang(own, rest, asked)
    if code == 0 or asked or not (code in AGAIN or code < 0):
      return code if code >= 0 else 128 - code
    now = _good_steps(own.workdir)
    fruitless = 0 if now - found else fruitless + 1
    found = now
    if fruitless > MOST:
      _say(f"given up after {MOST} restarts without a new checkpoint; the last exit code was {code}")
      return code if code >= 0 else 128 - code
    pause = min(own.pause * 2**fruitless, LONGEST_PAUSE)
    _say(f"ended with {code}; starting again in {pause:g} s")
    _sleep(pause, asked)
    if asked:
      return 128 + asked[0]


def _flags(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
  parser = argparse.ArgumentParser(prog="launch/local.py", description=__doc__.splitlines()[0], allow_abbrev=False)
  parser.add_argument("-n", type=int, default=2, help="how many processes")
  parser.add_argument("--gpus", type=int, default=0, help="GPUs of each process; 0 where there are none")
  parser.add_argument("--pause", type=float, default=1.0, help="seconds before the first restart; then twice as many")
  parser.add_argument("--workdir", required=True, help="the run's, as in dalle train")
  own, rest = parser.parse_known_args(argv)
  if own.n < 1:
    parser.error(f"got -n {own.n}, wanted 1 or more processes")
  return own, [*rest, "--workdir", own.workdir]


def _gang(own: argparse.Namespace, rest: list[str], asked: list[int]) -> int:
  """Runs all processes to their end; the exit code of the one that failed first, or 0."""
  port = _free_port()
  gang = [_start(own, rest, index, port) for index in range(own.n)]
  told = False
  try:
    while True:
      codes = [process.poll() for process in gang]
      if any(codes):
        return _first(_end(gang))
      if all(code == 0 for code in codes):
        return 0
      if asked and not told:
        told = True
        for process in gang:
          process.send_signal(signal.SIGTERM)
      if len(asked) > 1:
        _end(gang, grace=0.0)
        return 128 + asked[0]
      time.sleep(0.05)
  finally:
    _end(gang, grace=0.0)


def _start(own: argparse.Namespace, rest: list[str], index: int, port: int) -> subprocess.Popen:
  told = {
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    "JAX_NUM_PROCESSES": str(own.n),
    "JAX_PROCESS_ID": str(index),
  }
  if own.gpus:
    told["JAX_LOCAL_DEVICE_IDS"] = ",".join(str(index * own.gpus + i) for i in range(own.gpus))
  command = [sys.executable, "-m", "dalle_jax", "train", *rest]
  return subprocess.Popen(command, env=os.environ | told, start_new_session=True, preexec_fn=_die_with_parent)


def _first(codes: list[int | None]) -> int:
  """The code that says most: a mistake or a full disk in one process makes the others lose it, however they end."""
  failed = [code for code in codes if code]
  final, again = [code for code in failed if code in FINAL], [code for code in failed if code in AGAIN or code < 0]
  return (final or again or failed)[0]


def _end(gang: list[subprocess.Popen], grace: float = GRACE) -> list[int | None]:
  """Gives those that still run a moment, and kills them with all that they started; the codes of those that ended."""
  until = time.monotonic() + grace
  while time.monotonic() < until and any(process.poll() is None for process in gang):
    time.sleep(0.02)
  codes = [process.poll() for process in gang]
  for process in gang:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  return codes


def _die_with_parent() -> None:
  """Asks Linux to kill this process when the launcher ends, however that ends."""
  ctypes.CDLL("libc.so.6", use_errno=True).prctl(1, signal.SIGKILL)


def _good_steps(workdir: str) -> set[str]:
  try:
    place = places.at(workdir)
    return {str(file) for file in place.glob("*/checkpoints/*/manifest.json")}
  except Exception:  # what is wrong with it, the run says
    return set()


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _sleep(seconds: float, asked: list[int]) -> None:
  until = time.monotonic() + seconds
  while time.monotonic() < until and not asked:
    time.sleep(0.05)


def _say(line: str) -> None:
  print(f"launch: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
