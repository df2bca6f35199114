"""Cycles of the attention kernels of a TPU, an example and head, in a process of its own: `python -m ... JSON`.

libtpu is told when it is loaded to write down its schedules; told so, it would write those of a whole train step too.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dalle_jax.models import transformer
from dalle_jax.ops.sparse_attention import attend, head_cycles, splash, tpu_cycles

KERNELS = ("pallas_tpu", "splash")  # implementations whose calls the compiler gives no cycles for

Cycles = dict[str, dict[str, float]]  # by kind of attention, then by pass


class Counting:
  """The count, begun at once beside other work; `result` waits for it."""

  def __init__(self, chip: str, model: transformer.Config, implementation: str):
    what = {"chip": chip, "implementation": implementation, "text": model.text, "grid": model.grid}
    what |= {"kernel": model.kernel, "kinds": sorted(set(model.kinds()))}
    command = [sys.executable, "-m", __name__, json.dumps(what)]
    on_cpu = os.environ | {"JAX_PLATFORMS": "cpu"}
    self._child = subprocess.Popen(
      command, env=on_cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )

  def stop(self) -> None:
    """Ends it where its result is not wanted any more."""
    self._child.kill()
    self._child.communicate()

  def result(self) -> Cycles:
    """Raises RuntimeError where counting failed."""
    said, complaint = self._child.communicate()
    if self._child.returncode:
      raise RuntimeError(f"counting the attention kernels' cycles failed:\n{complaint}")
    return json.loads(said.splitlines()[-1])


def counted(model: transformer.Config) -> str:
  """Why cycles can't be counted for this model's kernels; empty where they can."""
  if model.head_dim != head_cycles.HEAD_DIM or model.dtype != "bfloat16":
    return f"cycles are counted for heads of {head_cycles.HEAD_DIM} in bfloat16 alone"
  return ""


def _count(chip: str, implementation: str, kinds: list[str], text: int, grid: int, kernel: int) -> Cycles:
  model = transformer.Config(text=text, grid=grid, kernel=kernel)
  found: Cycles = {}
  with tempfile.TemporaryDirectory(prefix="kernel-cycles-") as name:
    tpu_cycles.begin(Path(name))
    for kind in kinds:
      pattern = model.pattern(kind)
      function = functools.partial(attend, implementation=implementation)
      made = head_cycles.kernels(chip, pattern, function, Path(name))
      found[kind] = {each: _of_head(implementation, pattern, made[each], each) for each in head_cycles.PASSES}
  return found


def _of_head(implementation: str, pattern: Any, kernel: tpu_cycles.Kernel, name: str) -> float:
  if implementation == "pallas_tpu":
    return head_cycles.of_tiles(pattern, kernel, name)
  block = splash.largest(pattern.length).block_q
  return float(head_cycles.of_mask(pattern, (block, block), kernel, name))


if __name__ == "__main__":
  print(json.dumps(_count(**json.loads(sys.argv[1]))))
