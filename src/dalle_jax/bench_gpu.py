"""Our GPU kernels' registers and spills, as ptxas reports them for a GPU that is not here."""

import dataclasses
from collections.abc import Callable
from typing import Any

from dalle_jax import bench
from dalle_jax.ops.sparse_attention import Pattern, gpu_code
from dalle_jax.ops.sparse_attention.pallas_gpu import unserved

KINDS = ("row", "column", "conv", "full")
Progress = Callable[[str, int, int], None]  # what is compiled, how many of it are, and of how many


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """The stream and its heads."""

  text: int = 256
  grid: int = 32
  head_dim: int = 64
  dtype: str = "bfloat16"

  def __post_init__(self) -> None:
    Pattern(text=self.text, grid=self.grid)


def registers(sizes: Sizes, progress: Progress = lambda what, done, total: None) -> dict[str, Any]:
  """Rows of {kind, kernel, registers, spilled, serialized, not_served}, of each kernel for an H200.

  Raises UserError without the plugin that compiles.
  """
  gpu_code.plugin()
  rows = []
  for i, kind in enumerate(KINDS):
    progress("H200: our kernels", i, len(KINDS))
    pattern = Pattern(text=sizes.text, grid=sizes.grid, kind=kind)
    if why := unserved(pattern, sizes.head_dim, sizes.dtype):
      rows.append({"kind": kind, "not_served": why})
      continue
    for code in gpu_code.of_passes(pattern, head_dim=sizes.head_dim, dtype=sizes.dtype):
      row = dataclasses.asdict(code)
      rows.append({"kind": kind, "kernel": row.pop("name").removeprefix(f"sparse_attention_{kind}_")} | row)
  progress("H200: our kernels", len(KINDS), len(KINDS))
  return {
    "bench": "gpu-registers",
    "rows": rows,
    "sizes": dataclasses.asdict(sizes),
    "versions": bench.versions(),
  }


def text(result: dict[str, Any]) -> str:
  """The result for a person."""
  lines = [f"{'pattern':9}{'kernel':18}{'registers':>10}{'spilled':>9}  products"]
  for row in result["rows"]:
    if "not_served" in row:
      lines.append(f"{row['kind']:9}{row['not_served']}")
      continue
    products = "one at a time" if row["serialized"] else "in flight together"
    lines.append(f"{row['kind']:9}{row['kernel']:18}{row['registers']:10}{row['spilled']:9}  {products}")
  note = "registers of a thread at entry and bytes of it that ptxas spills, compiled for an H200 that is not here"
  return "\n".join([*lines, note, ", ".join(f"{n} {v}" for n, v in result["versions"].items())])
