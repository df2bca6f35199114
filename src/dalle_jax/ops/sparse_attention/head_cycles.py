"""Cycles a head of an example takes in our TPU kernel and in splash, from the schedules that libtpu writes.

bfloat16, heads of 64. What splash runs of its grid follows from the mask: a step a block of queries and keys, the body
where some pair of the block is seen, a beginning and an end for each block of queries. Its backward pass leaves the sum
of dq over blocks of keys to another kernel, which is not counted.

B batch, L stream, H heads, K head dim.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from dalle_jax.ops.sparse_attention import splash, tiles, tpu_cycles
from dalle_jax.ops.sparse_attention.pallas_tpu.spec import FAST_MEMORY, whole_bytes
from dalle_jax.ops.sparse_attention.pallas_tpu.steps import runs as long_runs
from dalle_jax.ops.sparse_attention.patterns import Pattern

HEADS, BATCH, HEAD_DIM = 62, 4, 64  # the largest model's
PASSES = ("forward", "training forward", "backward")


def kernels(chip: str, pattern: Pattern, function: Callable, folder: Path) -> dict[str, tpu_cycles.Kernel]:
  """The kernels of PASSES, but those that the chip's fast memory does not hold."""
  shape = jax.ShapeDtypeStruct((BATCH, pattern.length, HEADS, HEAD_DIM), jnp.bfloat16)
  run = functools.partial(function, pattern=pattern)

  def both(q, k, v, g):
    o, pull = jax.vjp(run, q, k, v)
    return o, pull(g)

  return dict(zip(PASSES, _compiled(chip, run, 3, shape, folder))) | dict(
    zip(PASSES[1:], _compiled(chip, both, 4, shape, folder))
  )


def _compiled(chip: str, function: Callable, operands: int, shape, folder: Path) -> list[tpu_cycles.Kernel]:
  try:
    tpu_cycles.compile_for(chip, function, *[shape] * operands)
  except jax.errors.JaxRuntimeError as error:
    tpu_cycles.kernels(folder)
    if "vmem" not in str(error).lower():
      raise
    return []
  found = [k for k in tpu_cycles.kernels(folder) if "splash" in k.name or "sparse_attention" in k.name]
  return sorted(found, key=lambda kernel: "backward" in kernel.name or "dkv" in kernel.name)


def of_tiles(pattern: Pattern, kernel: tpu_cycles.Kernel, name: str) -> float:
  """Cycles a head of our kernel."""
  plan = tiles.layout(pattern)
  if whole_bytes(plan, HEAD_DIM, 2) <= FAST_MEMORY:
    return kernel.loop * HEAD_DIM / 128  # its branches only guard what is fetched and written beside it
  steps, parts = long_runs(plan)["backward" if name == "backward" else "forward"]
  # What precedes our own parts only guards a fetch, and counts in every step.
  own = dataclasses.replace(kernel, parts=kernel.parts[-len(parts) :])
  return own.cycles(steps, *parts) * HEAD_DIM / 128


def of_mask(pattern: Pattern, shape: tuple[int, int], kernel: tpu_cycles.Kernel, name: str) -> int:
  """Cycles a head of a splash kernel under the pattern's mask."""
  (q, k), length = shape, splash.filled(pattern.length, splash.block_sizes(*shape))
  live = splash.mask(pattern, length).reshape(length // q, q, length // k, k).any((1, 3))
  if name == "backward":  # it goes through blocks of keys, and of queries within
    live = live.T
  outer, steps = live.shape[0], live.shape[0] * int(live.sum(1).max())
  if live.shape[1] == 1:  # a beginning, a body and an end in every step: nothing is skipped
    return steps * kernel.loop
  return kernel.cycles(steps, outer, int(live.sum()), outer)
