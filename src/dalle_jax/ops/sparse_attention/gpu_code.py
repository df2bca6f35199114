"""What ptxas says of a kernel's code for a GPU that is not here: registers, and what did not fit into them.

JAX's CUDA plugin compiles for a GPU that is only described, without a driver. A process looks for plugins once, when
its first array is made, so the compiler runs in a process of its own, which is told where the plugin is.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from dalle_jax import chips, sharding
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention.pallas_gpu import attend
from dalle_jax.ops.sparse_attention.patterns import Pattern

PLUGIN = Path("cuda")  # in the virtual environment, where `make gpu-compiler` puts it

IGNORED = "(C7508)"  # how ptxas begins when it does not do as setmaxnreg says


@dataclasses.dataclass(frozen=True)
class Code:
  """registers: of a thread at entry; spilled: bytes of a thread that are written to and read from memory instead.

  serialized: whether ptxas had to wait for every product before the next.
  """

  name: str
  registers: int
  spilled: int
  serialized: bool


def plugin() -> Path:
  """The folder that JAX's CUDA plugin is in. Raises UserError where it is not installed."""
  folder = Path(sysconfig.get_path("data")) / PLUGIN
  if not (folder / "jax_plugins").is_dir():
    raise UserError(f"no CUDA plugin in {folder}: run `make gpu-compiler`")
  return folder


def environment(folder: Path) -> dict[str, str]:
  """What a process is told that compiles by the plugin in this folder."""
  path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
  told = {"PYTHONPATH": path, "JAX_PLATFORMS": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
  return os.environ | told | {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}


def of_passes(pattern: Pattern, *, batch: int = 2, heads: int = 2, head_dim: int = 64, dtype: str = "bfloat16"):
  """The code of the forward and the backward kernels. Raises UserError where the plugin is not installed."""
  folder = plugin()
  what = dataclasses.asdict(pattern) | {"batch": batch, "heads": heads, "head_dim": head_dim, "dtype": dtype}
  told = environment(folder) | {"MOSAIC_GPU_DUMP_PTXAS": "1"}
  command = [sys.executable, "-m", __name__, json.dumps(what)]
  done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
  codes = parse(done.stdout)
  if done.returncode or len(codes) != 3 or IGNORED in done.stdout:
    raise RuntimeError(f"compiling three kernels for a GPU failed:\n{done.stdout}\n{done.stderr}")
  return codes


def parse(said: str) -> list[Code]:
  """The kernels that ptxas reports, in the order of their names."""
  serialized = re.findall(r"wgmma\.mma_async instructions are serialized .*?function '(\w+)'", said)
  entry = r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
  found = {}
  for name, stores, loads, registers in re.findall(entry, said, re.DOTALL):
    short = name.removesuffix("_mosaic_gpu_kernel")
    found[short] = Code(short, int(registers), int(stores) + int(loads), name in serialized)
  return [found[name] for name in sorted(found, key=lambda name: ("backward" in name, name))]


def _compile(batch: int, heads: int, head_dim: int, dtype: str, **of_pattern) -> None:
  """In the process that has the plugin."""
  pattern = Pattern(**of_pattern)
  topology = topologies.get_topology_desc("h200", platform="cuda", target_config=chips.target("h200"), topology="1x1x1")
  mesh = sharding.make_mesh(sharding.MeshShape(), topology.devices)
  whole = NamedSharding(mesh, PartitionSpec())
  shape = jax.ShapeDtypeStruct((batch, pattern.length, heads, head_dim), jnp.dtype(dtype), sharding=whole)

  def both(q, k, v, g):
    o, pull = jax.vjp(lambda *qkv: attend(*qkv, pattern), q, k, v)
    return o, pull(g)

  with sharding.in_scope(mesh, sharding.Rules()):
    jax.jit(both).trace(*[shape] * 4).lower().compile()


if __name__ == "__main__":
  _compile(**json.loads(sys.argv[1]))
