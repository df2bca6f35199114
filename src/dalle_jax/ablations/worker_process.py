"""The worker as its parent sees it: started when there is something to do, and anew after it failed or died."""

import json
import signal
import subprocess
import sys
from typing import Any

from dalle_jax.errors import TrainingPreempted


class Worker:
  """Asks a process of its own, so that what ends that process ends no more than what was asked of it."""

  def __init__(self) -> None:
    self._process: subprocess.Popen | None = None

  def ask(self, **asked: Any) -> dict[str, Any]:
    """The answer; of a process that died {"failed": how}. Raises TrainingPreempted where it was asked to go."""
    if self._process is None:
      argv = [sys.executable, "-m", "dalle_jax.ablations.worker"]
      self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
      print(json.dumps(asked), file=self._process.stdin, flush=True)
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ""
    answer = json.loads(line) if line else {"failed": self._death()}
    if "failed" in answer:
      self.close()  # what it leaves behind in memory is nothing for the next
    return answer

  def close(self) -> None:
    """Ends the process, if there is one."""
    if self._process is not None:
      self._process.stdin.close()
      self._process.kill()
      self._process.wait()
      self._process = None

  def _death(self) -> str:
    code = self._process.wait()
    if code == TrainingPreempted.exit_code:
      raise TrainingPreempted("asked to go; the same command goes on from the last checkpoint")
    if code >= 0:
      return f"its process ended with {code}"
    more = ", which the system sends where memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(-code).name}{more}"
