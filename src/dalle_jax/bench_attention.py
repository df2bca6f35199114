"""Times attention under each pattern: ours, dense under a mask, and JAX's own under it, in alternating runs.

On a GPU ours is the kernel, and beside it stand the structured path, cuDNN under the mask, and cuDNN's causal attention
of the same stream, which sees more and is what a model without patterns would run.

B batch, L stream, H heads, K head dim.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dalle_jax import bench
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern, attend

KINDS = ("row", "column", "conv")
PASSES = ("forward", "forward and backward")
CALLS = 20  # in a row on an accelerator, where a call takes less than the time to ask for it and wait


def jax_own(q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, *, pattern: Pattern) -> Array:
  """JAX's attention under the pattern's mask."""
  i = jnp.arange(pattern.length)
  mask_11LL = pattern.allowed(i[:, None], i[None, :])[None, None]
  return jax.nn.dot_product_attention(q_BLHK, k_BLHK, v_BLHK, mask=mask_11LL)


def cudnn_causal(q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, *, pattern: Pattern) -> Array:
  """cuDNN's attention of every position to all before it."""
  causal = Pattern(text=pattern.text, grid=pattern.grid, kind="full")
  return attend(q_BLHK, k_BLHK, v_BLHK, pattern=causal, implementation="cudnn")


def sides(platform: str) -> dict[str, Callable[..., Array]]:
  """What is timed on a platform where it is served; the last one is ours."""
  found = {
    "dense": functools.partial(attend, implementation="reference"),
    "jax": jax_own,
    "structured": functools.partial(attend, implementation="xla"),
  }
  if platform == "gpu":
    found["cudnn"] = functools.partial(attend, implementation="cudnn")
    found["cudnn_causal"] = cudnn_causal
    found["kernel"] = functools.partial(attend, implementation="pallas_gpu")
  return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
  """One layer's attention."""

  batch: int = 2
  heads: int = 8
  head_dim: int = 64
  text: int = 256
  grid: int = 32
  kernel: int = 11
  dtype: str = "float32"
  seed: int = 0

  def __post_init__(self) -> None:
    for name in ("batch", "heads", "head_dim"):
      if getattr(self, name) < 1:
        raise UserError(f"got {name}={getattr(self, name)}, wanted at least 1")
    if self.dtype not in ("float32", "bfloat16", "float16"):
      raise UserError(f"got dtype={self.dtype!r}, wanted float32, bfloat16 or float16")

  def pattern(self, kind: str) -> Pattern:
    """Raises UserError for sizes that no pattern has."""
    return Pattern(text=self.text, grid=self.grid, kind=kind, **({"kernel": self.kernel} if kind == "conv" else {}))


def attention(shape: Shape, *, warmup: int = 2, repeats: int = 10, beside: int = 1) -> dict[str, Any]:
  """Rows of {kind, pass, SIDE_s, SIDE_spread_s, ratio_SIDE}, medians of alternating runs, and what `bench` reports.

  A ratio above 1 says that ours, the last of `sides` that serves the shape, is faster than that side; not_served tells
  why others are not there. beside: 0 leaves out what writes all scores to memory, of the whole square or a window.
  Raises UserError if nothing would be timed.
  """
  if repeats < 1 or warmup < 1:
    raise UserError(f"got warmup={warmup} and repeats={repeats}, wanted at least 1 of each")
  if not beside and jax.default_backend() != "gpu":
    raise UserError(f"beside=0 leaves nothing to compare on {jax.default_backend()}: leave it out")
  timed, unserved = {}, {}
  for side, function in sides(jax.default_backend()).items():
    if not beside and side in ("dense", "jax", "structured"):
      continue
    try:
      _timer(shape, KINDS[0], PASSES[0], function)()
      timed[side] = function
    except UserError as error:
      unserved[side] = str(error)
  rows = [_row(shape, kind, which, timed, warmup, repeats) for kind in KINDS for which in PASSES]
  about = {"repeats": repeats, "shape": dataclasses.asdict(shape), "not_served": unserved}
  return {"bench": "attention", "rows": rows} | about | {"device": bench.device(), "versions": bench.versions()}


def _row(shape: Shape, kind: str, which: str, timed: dict, warmup: int, repeats: int) -> dict[str, Any]:
  timers = {side: _timer(shape, kind, which, function) for side, function in timed.items()}
  for _ in range(warmup):
    for timer in timers.values():
      timer()
  rounds = [{side: timer() for side, timer in timers.items()} for _ in range(repeats)]
  seconds = {side: [each[side] for each in rounds] for side in timed}
  median = {side: statistics.median(found) for side, found in seconds.items()}
  *others, ours = timed
  row = {"kind": kind, "pass": which} | {f"ratio_{side}": median[side] / median[ours] for side in others}
  row |= {f"{side}_s": value for side, value in median.items()}
  return row | {f"{side}_spread_s": bench.spread(found) for side, found in seconds.items()}


def _timer(shape: Shape, kind: str, which: str, function: Callable[..., Array]) -> Callable[[], float]:
  pattern = shape.pattern(kind)
  sizes = (4, shape.batch, pattern.length, shape.heads, shape.head_dim)
  q_BLHK, k_BLHK, v_BLHK, g_BLHK = jax.random.normal(jax.random.key(shape.seed), sizes).astype(jnp.dtype(shape.dtype))

  def forward(q, k, v, g):
    del g
    return function(q, k, v, pattern=pattern)

  def both(q, k, v, g):
    o_BLHK, pull = jax.vjp(lambda *qkv: forward(*qkv, None), q, k, v)
    return o_BLHK, pull(g)

  run = jax.jit(forward if which == PASSES[0] else both)

  calls = 1 if jax.default_backend() == "cpu" else CALLS

  def timer() -> float:
    begin = time.perf_counter()
    for _ in range(calls):
      made = run(q_BLHK, k_BLHK, v_BLHK, g_BLHK)
    jax.block_until_ready(made)
    return (time.perf_counter() - begin) / calls

  return timer


def text(result: dict[str, Any]) -> str:
  """The result for a person: milliseconds, and how many times those of ours."""
  timed = [key.removesuffix("_s") for key in result["rows"][0] if key.endswith("_s") and not key.endswith("spread_s")]
  lines = ["pattern pass" + " " * 18 + "".join(f"{side:>21}" for side in timed)]
  for row in result["rows"]:
    cells = [f"{1e3 * row[f'{side}_s']:9.2f} ms" + _times(row.get(f"ratio_{side}")) for side in timed]
    lines.append(f"{row['kind']:8}{row['pass']:22}" + "".join(cells))
  device = result["device"]
  where = f"{device['kind']}, {device['processor']}, {device['cores']} cores"
  lines += [f"not timed: {why}" for why in result["not_served"].values()]
  return "\n".join([*lines, f"medians of {result['repeats']}, {where}"])


def _times(ratio: float | None) -> str:
  return " " * 9 if ratio is None else f"{ratio:8.2f}x"
