"""The frame of all three kernels: blocks of its own for each worker, blocks that come by, and blocks that it stores.

B batch, N masks, Q S queries and keys of a block.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float, Int

from dalle_jax import sharding
from dalle_jax.ops.sparse_attention.pallas_gpu import copies, stream
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import Spec, stages

# Of each thread that computes and of each that copies, by the number of workers. There are as many as all threads have
# at entry, 504, 512 and 480 for one thread of each warpgroup: a program that asked for more would wait for ever.
REGISTERS = {2: (232, 40), 3: (152, 40), 4: (112, 32)}


class Work(NamedTuple):
  """What a worker has: the place of its block, references to its own blocks and to the slots that others come by in."""

  block: Any
  tokens: Any
  own: tuple
  streamed: tuple
  masks: Any
  barriers: stream.Ring
  shared: Any  # what comes by


def run(
  spec: Spec,
  name: str,
  work: Callable[[Work], Sequence[Array]],
  *,
  workers: int,
  comes_by: Callable[[Spec, int, Any, Any], Any],
  own: Sequence[Array],
  streamed: Sequence[Array],
  stored: Sequence[jax.ShapeDtypeStruct],
  tokens_B: Int[Array, " B"],
  added_NQS: Float[np.ndarray, "N Q S"],
) -> list[Array]:
  """`work` for every block of the stream, head and example: what it returns lies in the arrays `stored` describes.

  Arrays are as `copies` has them. The first ones stored lie where the worker's own blocks were, so they are of the same
  kind.
  """
  batch, heads = own[0].shape[0], own[0].shape[-2]
  counts = [len(own), len(streamed), 2, len(stored), len(own), len(streamed), len(stored[len(own) :])]

  def kernel(*refs):
    groups = _groups(refs, counts)
    own_in, streamed_in, (tokens_ref, masks_ref), out, own_here, streamed_here, more, rest = groups
    masks_here, own_ready, masks_ready, *barriers = rest
    barriers = stream.Ring(*barriers)
    b, h, worker = lax.axis_index("batch"), lax.axis_index("heads"), lax.axis_index("worker")
    start = lax.axis_index("tile") * workers
    tokens = tokens_ref[b]
    shared = comes_by(spec, workers, start, tokens)

    @pl.when(worker == workers)
    def _copies():
      if workers in REGISTERS:
        plgpu.set_max_registers(REGISTERS[workers][1], action="decrease")
      plgpu.copy_gmem_to_smem(masks_ref, masks_here, masks_ready)

      def copy(step, slot, barrier):
        for source, target in zip(streamed_in, streamed_here):
          copies.copy_in(spec, source, target.at[slot], (b, h, shared.block(step)), barrier)

      stream.fill(barriers, shared.steps, copy)

    @pl.when(worker < workers)
    def _works():
      if workers in REGISTERS:
        plgpu.set_max_registers(REGISTERS[workers][0], action="increase")
      # Where the blocks are no multiple of the workers, the last ones do the last block again, and store nothing.
      block = jnp.minimum(start + worker, spec.blocks - 1)
      mine = tuple(ref.at[worker] for ref in own_here)
      for source, target in zip(own_in, mine):
        copies.copy_in(spec, source, target, (b, h, block), own_ready.at[worker])
      plgpu.barrier_wait(own_ready.at[worker])
      plgpu.barrier_wait(masks_ready)
      values = work(Work(block, tokens, mine, tuple(streamed_here), masks_here, barriers, shared))
      targets = [*mine, *(ref.at[worker] for ref in more)][: len(values)]
      for target, value in zip(targets, values, strict=True):
        target[...] = value.astype(target.dtype)
      plgpu.commit_smem()

      @pl.when(start + worker < spec.blocks)
      def _store():
        for source, target in zip(targets, out):
          copies.copy_out(spec, source, target, (b, h, block))
        plgpu.wait_smem_to_gmem(0)

  added = jnp.asarray(added_NQS, jnp.bfloat16)
  more = stored[len(own) :]
  slots = stages(spec, workers, [*own, *more], streamed)
  arrivals = lambda arrays: sum(copies.count(spec, x) for x in arrays)  # noqa: E731
  scratch = [
    *(spec.shared(workers, x) for x in own),
    *(spec.shared(slots, x) for x in streamed),
    *(spec.shared(workers, x) for x in more),
    plgpu.SMEM(added.shape, added.dtype, transforms=(plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))),
    plgpu.Barrier(num_arrivals=arrivals(own), num_barriers=workers),
    plgpu.Barrier(),
    *stream.ring(slots, arrivals(streamed), workers),
  ]
  return plgpu.kernel(
    kernel,
    out_type=list(stored),
    scratch_types=scratch,
    grid=(batch, heads, -(-spec.blocks // workers)),  # neighbours share keys
    grid_names=("batch", "heads", "tile"),
    num_threads=workers + 1,
    thread_name="worker",
    kernel_name=f"sparse_attention_{spec.plan.pattern.kind}_{name}",
    compiler_params=plgpu.CompilerParams(approx_math=True),
    interpret=interpreter() if spec.interpret else None,
  )(*own, *streamed, tokens_B, added)


def hopper() -> bool:
  """Whether the program being traced is for GPUs that have wgmma."""
  return getattr(sharding.device(), "compute_capability", "").startswith("9.")


def interpreter() -> Any:
  """JAX's, of GPU kernels."""
  if hasattr(plgpu, "InterpretGPUParams"):  # jax 0.11
    return plgpu.InterpretGPUParams()
  return importlib.import_module("jax._src.pallas.mosaic_gpu.interpret.params").InterpretGPUParams()


def _groups(refs: Sequence, counts: Sequence[int]) -> list[Sequence]:
  """Groups of so many references, and the rest."""
  groups = []
  for count in counts:
    groups.append(refs[:count])
    refs = refs[count:]
  return [*groups, refs]
