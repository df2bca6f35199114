"""Our TPU kernel beside JAX's splash attention, in cycles of libtpu's schedules for chips that are not here.

Splash is given its best of nine block shapes.

B batch, L stream, H heads, K head dim.
"""

import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dalle_jax import bench
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend, head_cycles, splash, tpu_cycles
from dalle_jax.ops.sparse_attention.pallas_tpu import unserved

KINDS = ("row", "column", "conv", "full")
HEADS, BATCH, HEAD_DIM = head_cycles.HEADS, head_cycles.BATCH, head_cycles.HEAD_DIM
Progress = Callable[[str, int, int], None]  # what is compiled, how many of it are, and of how many


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """Which chips, and the stream."""

  chips: tuple[str, ...] = ("v5e", "v5p", "v6e", "tpu7x")
  text: int = 256
  grid: int = 32

  def __post_init__(self) -> None:
    Pattern(text=self.text, grid=self.grid)
    for chip in self.chips:
      if chip not in tpu_cycles.CHIPS:
        raise UserError(f"no TPU {chip!r}: choose among {', '.join(tpu_cycles.CHIPS)}")


def cycles(sizes: Sizes, progress: Progress = lambda what, done, total: None) -> dict[str, Any]:
  """Rows of {chip, kind, pass, ours, splash, blocks, ratio, causal}: cycles a head of one example in bfloat16.

  blocks: the shape that is splash's best for this mask; causal: splash's best under the causal mask.
  "forward and copies" adds what XLA needs to bring q, k, v and o from and to the projections' layout, by its own
  estimate.
  Raises UserError without libtpu.
  """
  rows = []
  with tempfile.TemporaryDirectory(prefix="tpu-cycles-") as name:
    folder = Path(name)
    tpu_cycles.begin(folder)
    for chip in sizes.chips:
      theirs = _Splash(chip, sizes, folder, progress)
      for i, kind in enumerate(KINDS):
        progress(f"{chip}: our kernel", i, len(KINDS))
        pattern = Pattern(text=sizes.text, grid=sizes.grid, kind=kind)
        if not unserved(pattern, HEAD_DIM, "bfloat16"):
          rows += _rows(chip, pattern, theirs, folder)
      progress(f"{chip}: our kernel", len(KINDS), len(KINDS))
    versions = bench.versions() | {"libtpu": tpu_cycles.version()}
  return {"bench": "tpu-cycles", "rows": rows, "sizes": dataclasses.asdict(sizes), "versions": versions}


def _rows(chip: str, pattern: Pattern, theirs: "_Splash", folder: Path) -> list[dict[str, Any]]:
  function = functools.partial(attend, implementation="pallas_tpu")
  ours = {
    name: head_cycles.of_tiles(pattern, kernel, name)
    for name, kernel in head_cycles.kernels(chip, pattern, function, folder).items()
  }
  causal = Pattern(text=pattern.text, grid=pattern.grid, kind="full")
  rows = []
  copies = _copies(chip, pattern, function, folder)
  sums = {"training": ours["training forward"] + ours["backward"]}
  if copies is not None:
    sums["forward and copies"] = ours["forward"] + copies
  for name, mine in (ours | sums).items():
    best, blocks = theirs.best(pattern, name)
    row = {"chip": chip, "kind": pattern.kind, "pass": name, "ours": mine, "splash": best, "blocks": blocks}
    rows.append(row | {"ratio": best / mine, "causal": theirs.best(causal, name)[0]})
  return rows


class _Splash:
  """Splash's kernels with every block shape that the chip's fast memory holds."""

  def __init__(self, chip: str, sizes: Sizes, folder: Path, progress: Progress):
    # The programs depend on the mask only through its size: what is seen decides how often their parts run.
    pattern = Pattern(text=sizes.text, grid=sizes.grid, kind="row")
    self.kernels: dict[tuple[int, int], dict[str, tpu_cycles.Kernel]] = {}
    shapes = list(itertools.product(_blocks(pattern.length), repeat=2))
    for i, shape in enumerate(shapes):
      progress(f"{chip}: splash's blocks", i, len(shapes))
      function = functools.partial(splash.attend, blocks=splash.block_sizes(*shape))
      self.kernels[shape] = head_cycles.kernels(chip, pattern, function, folder)
    progress(f"{chip}: splash's blocks", len(shapes), len(shapes))
    self.copies = _copies(chip, pattern, splash.attend, folder)

  def best(self, pattern: Pattern, name: str) -> tuple[float, tuple[int, int]]:
    """Cycles of a row of the table under the pattern's mask, and the block shape that gives the fewest."""
    if name == "forward and copies":
      cycles, shape = self.best(pattern, "forward")
      return cycles + self.copies, shape
    if name == "training":
      forward, backward = self.best(pattern, "training forward"), self.best(pattern, "backward")
      return forward[0] + backward[0], backward[1]
    held = {shape: kernels[name] for shape, kernels in self.kernels.items() if name in kernels}
    return min((head_cycles.of_mask(pattern, shape, kernel, name), shape) for shape, kernel in held.items())


def _blocks(length: int) -> tuple[int, ...]:
  """Three sizes of blocks of queries, and of keys, that fit the length well."""
  return (256, 640, 1280) if length % 640 == 0 else (256, 512, 1024)


def _copies(chip: str, pattern: Pattern, function: Callable, folder: Path) -> float | None:
  """The compiler's estimate, a head and example, of what stands between the projections and a forward kernel."""
  width = HEADS * HEAD_DIM
  h = jax.ShapeDtypeStruct((BATCH, pattern.length, width), jnp.bfloat16)
  w = jax.ShapeDtypeStruct((width, width), jnp.bfloat16)

  def layer(h_BLD, to_q, to_k, to_v, to_out):
    q, k, v = ((h_BLD @ w).reshape(BATCH, pattern.length, HEADS, HEAD_DIM) for w in (to_q, to_k, to_v))
    return function(q, k, v, pattern=pattern).reshape(BATCH, pattern.length, width) @ to_out

  compiled = tpu_cycles.compile_for(chip, layer, h, w, w, w, w)
  tpu_cycles.kernels(folder)
  estimate = tpu_cycles.around(compiled)
  return None if estimate is None else estimate / (BATCH * HEADS)


def text(result: dict[str, Any]) -> str:
  """The result for a person."""
  head = f"{'chip':7}{'pattern':9}{'pass':20}{'ours':>8}{'splash':>8}  {'its blocks':11}{'ratio':>6}"
  head += f"{'splash causal':>16}"
  lines = [
    f"{r['chip']:7}{r['kind']:9}{r['pass']:20}{r['ours']:8.0f}{r['splash']:8.0f}  {'x'.join(map(str, r['blocks'])):11}"
    f"{r['ratio']:5.2f}x{r['causal']:8.0f}{r['causal'] / r['ours']:7.2f}x"
    for r in result["rows"]
  ]
  note = "compiler's cycles a head and example, bfloat16, heads of 64: no time, waits for memory are not in them"
  return "\n".join([head, *lines, note, ", ".join(f"{n} {v}" for n, v in result["versions"].items())])
