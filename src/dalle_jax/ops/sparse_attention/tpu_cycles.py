"""Cycles of a kernel on a TPU that is not here: counted in the schedule that libtpu writes when it compiles the kernel.

libtpu compiles for a chip that is only described, and with two flags writes each kernel's bundles of instructions in
their final order, one a cycle. What a step of the kernel's grid runs is a loop; parts of it are skipped by branches
where a block is masked. Not counted are waits for memory and a clock that slows down: these are a compiler's cycles,
not a time.

libtpu reads the flags when it is loaded: call `begin` before anything else asks for a topology.
"""

import dataclasses
import os
import re
import sysconfig
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dalle_jax.errors import UserError

CHIPS = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "tpu7x": "tpu7x:2x2x1"}
LIBRARY = Path("tpu") / "libtpu" / "libtpu.so"  # in the virtual environment, where `make` puts it


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A kernel's schedule: bundles of its loop over the grid, and of the innermost parts in it that branches may skip."""

  name: str
  loop: int
  parts: tuple[int, ...]

  def cycles(self, steps: int, *times: int) -> int:
    """Of so many steps of the grid, in which each part runs so many times. Raises ValueError for other parts."""
    if len(times) != len(self.parts):
      raise ValueError(f"{self.name} has {len(self.parts)} parts that may be skipped, got counts of {len(times)}")
    always = self.loop - sum(self.parts)
    return steps * always + sum(count * part for count, part in zip(times, self.parts))


def settings() -> dict[str, str]:
  """What a process is told that compiles by libtpu. Raises UserError where there is no libtpu."""
  library = Path(os.environ.get("TPU_LIBRARY_PATH") or Path(sysconfig.get_path("data")) / LIBRARY)
  if not library.exists():
    raise UserError(f"no libtpu at {library}: run `make libtpu`, or name the library in TPU_LIBRARY_PATH")
  # Without these it asks the network which pod this machine belongs to.
  told = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
  # No device is opened, so processes need not keep each other out.
  return {"TPU_LIBRARY_PATH": str(library), "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"} | told


def begin(folder: Path) -> None:
  """Has libtpu write its schedules into the folder. Raises UserError where there is no libtpu."""
  os.environ |= settings()
  os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"


def version() -> str:
  """libtpu's, as its installation beside the library says; empty where nothing says it."""
  folders = Path(os.environ["TPU_LIBRARY_PATH"]).parent.parent.glob("libtpu-*.dist-info")
  return next((folder.name.split("-")[1].removesuffix(".dist") for folder in folders), "")


def compile_for(chip: str, function: Callable, *shapes: jax.ShapeDtypeStruct) -> jax.stages.Compiled:
  """The function compiled for one core of a chip. Raises UserError for a chip there is none of."""
  if chip not in CHIPS:
    raise UserError(f"no TPU {chip!r}: choose one of {', '.join(CHIPS)}")
  topology = topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[chip])
  mesh = Mesh(np.array(topology.devices[:1]), ("x",))
  whole = NamedSharding(mesh, PartitionSpec())
  placed = [jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=whole) for s in shapes]
  with jax.set_mesh(mesh):
    return jax.jit(function).lower(*placed).compile()


def kernels(folder: Path) -> list[Kernel]:
  """What was written into the folder since it was last read, in the order of compilation; removes it."""
  found = []
  for file in sorted(folder.glob("*-packed-bundles-post-ra.txt")):
    if "schedule-analysis" not in file.name:
      found += _read(file)
  for file in folder.iterdir():
    file.unlink()
  return found


def around(compiled: jax.stages.Compiled) -> int | None:
  """The compiler's estimate of cycles of a program's operations that are neither products nor kernels: its copies.

  None for a chip whose programs carry no estimates.
  """
  computations = re.split(r"\n(?=(?:ENTRY )?%)", compiled.as_text())
  bodies = {name[1]: text for text in computations if (name := re.match(r"(?:ENTRY )?(%[\w.-]+) ", text))}
  entry = next(text for text in computations if text.startswith("ENTRY"))
  if "estimated_cycles" not in entry:
    return None
  total = 0
  for line in entry.splitlines():
    called = re.search(r"calls=(%[\w.-]+)", line)
    estimate = re.search(r'"estimated_cycles":"(\d+)"', line)
    text = line + bodies.get(called[1] if called else "", "")
    if estimate and "custom-call(" not in text and "convolution(" not in text:
      total += int(estimate[1])
  return total


BUNDLE = re.compile(r"\s*(0x[0-9a-f]+|0)\s+([A-Z]{2})?\s*:")
BRANCH = re.compile(r"sbr\.rel .*?target bundleno = (\d+)")


def _read(file: Path) -> list[Kernel]:
  """The kernel of a file of bundles; none where it has no loop."""
  starts, branches = [], []
  for line in file.read_text().splitlines():
    if not (bundle := BUNDLE.match(line)):
      continue
    at = int(bundle[1], 16)
    if bundle[2] == "LB":
      starts.append(at)
    branches += [(at, int(target)) for target in BRANCH.findall(line)]
  back = [(target, at) for at, target in branches if target in starts and target <= at]
  if not back:
    return []
  first, last = min(back)[0], max(at for _, at in back)
  skips = [(at, target) for at, target in branches if first < at < target <= last]
  inner = [s for s in skips if not any(s != other and s[0] <= other[0] and other[1] <= s[1] for other in skips)]
  # 1795662175025368155-NAME.1-65-packed-bundles-post-ra.txt
  name = re.sub(r"^\d+-|-\d+-packed-bundles-post-ra\.txt$", "", file.name)
  return [Kernel(name, last - first, tuple(target - at for at, target in sorted(inner)))]
