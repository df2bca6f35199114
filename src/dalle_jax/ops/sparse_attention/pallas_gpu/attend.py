"""The kernels' entry: what they serve, each device's share of a mesh, and the passes as one differentiable function.

B batch, L stream, H heads, K head dim, S slots (or rows and positions of a row, see `copies`).
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import slots, tiles
from dalle_jax.ops.sparse_attention.kept import kept
from dalle_jax.ops.sparse_attention.pallas_gpu.backward import backward
from dalle_jax.ops.sparse_attention.pallas_gpu.forward import forward
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK, Spec, Workers, enough_memory
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.platforms import only_on
from dalle_jax.ops.sparse_attention.shards import by_heads

# By the head dimension, as many as leave each thread the registers for its sums. (`tests` read what ptxas says.)
WORKERS = {16: Workers(4, 3), 32: Workers(4, 3), 64: Workers(4, 3), 128: Workers(2, 2)}
INTERPRETED = Workers(1, 1)  # a thread each and one that copies, all of which must run at once


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
  *,
  interpret: bool = False,
  workers: Workers | None = None,
) -> Float[Array, "B L H K"]:
  """What each position takes from those it sees, in the dtype of v; on a mesh each device works on its own heads.

  workers: blocks of 64 positions of a program, in each pass. Raises UserError for what the kernel does not serve.
  """
  dtypes = [str(x.dtype) for x in (q_BLHK, k_BLHK, v_BLHK)]
  if why := unserved(pattern, q_BLHK.shape[-1], *dtypes, lengths=text_lengths_B is not None):
    raise UserError(why)
  workers = workers or (INTERPRETED if interpret else WORKERS[q_BLHK.shape[-1]])
  if interpret:
    _check_interpreter(max(workers) + 1)
  else:
    _check_chip()
    elsewhere = "pallas_gpu runs on NVIDIA GPUs: choose xla here, or interpret=True to see its numbers"
    q_BLHK = only_on(q_BLHK, "cuda", elsewhere)
  spec = _spec(pattern, q_BLHK.shape[-1], workers, interpret)
  run = functools.partial(_on_one_device, spec)
  return by_heads(run, lengths=text_lengths_B is not None)(
    *(q_BLHK, k_BLHK, v_BLHK), *([] if text_lengths_B is None else [text_lengths_B])
  )


def unserved(pattern: Pattern, head_dim: int, *dtypes: str, lengths: bool = False) -> str:
  """Why the kernel does not serve this, with what to change; empty where it does.

  lengths: whether texts have lengths of their own.
  """
  if pattern.order != "text_first" or pattern.softmax != "joint":
    return (
      f"pallas_gpu serves order='text_first' and softmax='joint', got {pattern.order!r} and {pattern.softmax!r}: "
      "choose reference or xla"
    )
  if pattern.kind == "full" and lengths:
    return "pallas_gpu serves kind='full' without text lengths: choose xla"
  if pattern.kind != "full" and pattern.grid > BLOCK:
    return f"pallas_gpu serves rows of at most {BLOCK} tokens, got {pattern.grid}: choose xla"
  if head_dim not in WORKERS:
    return f"pallas_gpu serves head dimensions 16, 32, 64 and 128, got {head_dim}: choose xla"
  if len(set(dtypes)) > 1 or dtypes[0] not in ("bfloat16", "float16"):
    return f"pallas_gpu takes q, k and v all bfloat16 or all float16, got {', '.join(dtypes)}: cast them, or choose xla"
  if not enough_memory(_spec(pattern, head_dim, WORKERS[head_dim], interpret=False)):
    return (
      f"pallas_gpu keeps a window of {pattern.kind} for heads of {head_dim} in 227 KiB of shared memory, and "
      f"{pattern.grid}x{pattern.grid} does not fit: choose xla"
    )
  return ""


def _spec(pattern: Pattern, head_dim: int, workers: Workers, interpret: bool) -> Spec:
  plan = tiles.layout(pattern)
  if pattern.kind == "full":
    return Spec(plan, head_dim, text=-(-pattern.length // BLOCK), image=0, back=0, workers=workers, interpret=interpret)
  text, image = plan.text // BLOCK, plan.image // BLOCK
  most = min((plan.before + 1) * (tiles.TILE // BLOCK), image) - 1
  query, key = most * BLOCK + np.arange(BLOCK)[:, None], np.arange((most + 1) * BLOCK)[None]
  back = most - int(tiles.seen(plan, query, key).any(axis=0).argmax()) // BLOCK
  return Spec(plan, head_dim, text, image, back, workers, interpret)


def _check_chip() -> None:
  """Raises UserError on a GPU that has no wgmma."""
  chip = getattr(sharding.device(), "compute_capability", "")
  if chip and not chip.startswith("9."):
    raise UserError(f"pallas_gpu runs on Hopper, compute capability 9.0, got a GPU of {chip}: choose xla")


def _check_interpreter(needed: int) -> None:
  """Raises UserError where it would wait for ever: for another device, or threads for all of a program's warpgroups."""
  if sharding.is_split("batch") or sharding.is_split("heads"):
    raise UserError("pallas_gpu is interpreted on one device only: choose xla on this mesh")
  told = os.environ.get("NPROC", "")
  processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  threads = max(int(told) if told.isdigit() else processors, jax.local_device_count())
  if threads < needed:
    raise UserError(
      f"interpreting pallas_gpu takes {needed} threads at once, and JAX has {threads} here: set NPROC={needed} before "
      "it starts"
    )


def _on_one_device(spec: Spec, q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, lengths_B: Array | None = None) -> Array:
  tokens_B = jnp.full(q_BLHK.shape[0], spec.tokens, jnp.int32)
  if lengths_B is not None:
    tokens_B = jnp.clip(lengths_B.astype(jnp.int32), 0, spec.tokens)
  return _unpack(spec, _packed(spec, *(_pack(spec, x) for x in (q_BLHK, k_BLHK, v_BLHK)), tokens_B))


def _pack(spec: Spec, x_BLHK: Array) -> Array:
  """As `copies` has it. Where all is seen, text and image follow each other without a gap."""
  batch, length, heads, head_dim = x_BLHK.shape
  if spec.in_place:
    return x_BLHK.reshape(batch, length // spec.plan.row, spec.plan.row, heads, head_dim)
  if not spec.image:
    return jnp.pad(x_BLHK, ((0, 0), (0, spec.blocks * BLOCK - length), (0, 0), (0, 0)))
  return slots.pack(x_BLHK.reshape(batch, length, -1), spec.plan).reshape(batch, -1, heads, head_dim)


def _unpack(spec: Spec, x_BSHK: Array) -> Array:
  batch, *_, heads, head_dim = x_BSHK.shape
  x_BSD = x_BSHK.reshape(batch, -1, heads * head_dim)
  if not spec.image:
    x_BSD = x_BSD[:, : spec.plan.pattern.length]
  elif not spec.in_place:
    x_BSD = slots.unpack(x_BSD, spec.plan)
  return x_BSD.reshape(batch, -1, heads, head_dim)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _packed(spec: Spec, q_BSHK: Array, k_BSHK: Array, v_BSHK: Array, tokens_B: Array) -> Array:
  return forward(spec, q_BSHK, k_BSHK, v_BSHK, tokens_B, statistics=False)[0]


def _packed_forward(spec: Spec, q_BSHK: Array, k_BSHK: Array, v_BSHK: Array, tokens_B: Array):
  made = kept(*forward(spec, q_BSHK, k_BSHK, v_BSHK, tokens_B, statistics=True))
  return made[0], (q_BSHK, k_BSHK, v_BSHK, *made, tokens_B)


def _packed_backward(spec: Spec, residuals: tuple[Array, ...], do_BSHK: Array):
  *operands, tokens_B = residuals
  return *backward(spec, *operands, do_BSHK, tokens_B), np.zeros(tokens_B.shape, jax.dtypes.float0)


_packed.defvjp(_packed_forward, _packed_backward)
