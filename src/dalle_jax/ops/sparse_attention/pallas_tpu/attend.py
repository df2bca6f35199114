"""The kernel's entry: what it serves, each device's share of a mesh, and its two passes as one differentiable function.

B batch, L stream, H heads, K head dim, S slots, D lanes of all groups of heads, T slots of text.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import tiles
from dalle_jax.ops.sparse_attention.kept import kept
from dalle_jax.ops.sparse_attention.pallas_tpu import columns, slots, steps, whole
from dalle_jax.ops.sparse_attention.pallas_tpu.spec import FAST_MEMORY, LANES, Spec, whole_bytes
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.platforms import only_on
from dalle_jax.ops.sparse_attention.reference import MASKED
from dalle_jax.ops.sparse_attention.shards import by_heads

SMALLEST_HEAD = 16  # eight heads a group: their statistics fill the eight sublanes of a register

OTHERS = "choose xla, or splash without text lengths"


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
  *,
  interpret: bool = False,
  block_k: int = 256,
) -> Float[Array, "B L H K"]:
  """What each position takes from those it sees, in the dtype of v; on a mesh each device works on its own heads.

  block_k: most keys of one product, a multiple of 128. Raises UserError for what the kernel does not serve.
  """
  if why := unserved(pattern, q_BLHK.shape[-1], *(str(x.dtype) for x in (q_BLHK, k_BLHK, v_BLHK))):
    raise UserError(why)
  if not interpret:
    q_BLHK = only_on(q_BLHK, "tpu", "pallas_tpu runs on TPU: choose xla here, or interpret=True to see its numbers")
  plan = tiles.layout(pattern)
  given = text_lengths_B is not None and pattern.text > 0
  fits = whole_bytes(plan, q_BLHK.shape[-1], q_BLHK.dtype.itemsize) <= FAST_MEMORY
  transposes = fits and pattern.kind == "column" and columns.in_kernel(plan, str(q_BLHK.dtype))
  spec = Spec(plan, q_BLHK.shape[-1], block_k, fits, transposes, given or plan.ragged, interpret)
  run = functools.partial(_on_one_device, spec)
  return by_heads(run, lengths=given)(q_BLHK, k_BLHK, v_BLHK, *([text_lengths_B] if given else []))


def unserved(pattern: Pattern, head_dim: int, *dtypes: str) -> str:
  """Why the kernel does not serve this, with what to change; empty where it does."""
  if pattern.order != "text_first" or pattern.softmax != "joint":
    return (
      f"pallas_tpu serves order='text_first' and softmax='joint', got {pattern.order!r} and {pattern.softmax!r}: "
      "choose reference or xla"
    )
  if pattern.kind != "full" and pattern.grid > tiles.TILE:
    return f"pallas_tpu serves rows of at most {tiles.TILE} tokens, got {pattern.grid}: {OTHERS}"
  if LANES % head_dim or head_dim < SMALLEST_HEAD:
    return f"pallas_tpu serves head dimensions 16, 32, 64 and 128, got {head_dim}: {OTHERS}"
  if len(set(dtypes)) > 1 or dtypes[0] not in ("float32", "bfloat16"):
    return f"pallas_tpu takes q, k and v all float32 or all bfloat16, got {', '.join(dtypes)}: cast them, or choose xla"
  needs = whole_bytes(tiles.layout(pattern), head_dim, jnp.dtype(dtypes[0]).itemsize)
  if pattern.kind == "full" and needs > FAST_MEMORY:
    return (
      f"pallas_tpu serves kind='full' within {FAST_MEMORY >> 20} MiB of fast memory, and {pattern.length} positions "
      f"with heads of {head_dim} in {dtypes[0]} need {math.ceil(needs / 2**20)}: {OTHERS}"
    )
  return ""


def _on_one_device(spec: Spec, q_BLHK: Array, k_BLHK: Array, v_BLHK: Array, lengths_B: Array | None = None) -> Array:
  batch, _, heads, _ = q_BLHK.shape
  absent_B1T = None
  if spec.padded:
    absent_B1T = jnp.broadcast_to(tiles.absent(spec.plan), (batch, 1, spec.plan.text))
    if lengths_B is not None:
      missing_BT = jnp.arange(spec.plan.text)[None] >= lengths_B[:, None]
      absent_B1T = jnp.where(missing_BT[:, None], MASKED, absent_B1T)
  packed = (slots.pack(x, spec) for x in (q_BLHK, k_BLHK, v_BLHK))
  return slots.unpack(_packed(spec, *packed, absent_B1T), spec, heads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _packed(spec: Spec, q_BSD: Array, k_BSD: Array, v_BSD: Array, absent_B1T: Array | None) -> Array:
  return _passes(spec).forward(spec, q_BSD, k_BSD, v_BSD, absent_B1T, statistics=False)[0]


def _packed_forward(spec: Spec, q_BSD: Array, k_BSD: Array, v_BSD: Array, absent_B1T: Array | None):
  o_BSD, lse = kept(*_passes(spec).forward(spec, q_BSD, k_BSD, v_BSD, absent_B1T, statistics=True))
  return o_BSD, (q_BSD, k_BSD, v_BSD, o_BSD, lse, absent_B1T)


def _packed_backward(spec: Spec, kept: tuple[Array | None, ...], do_BSD: Array):
  *operands, lse, absent_B1T = kept
  gradients = _passes(spec).backward(spec, *operands, do_BSD, lse, absent_B1T)
  return *gradients, None if absent_B1T is None else jnp.zeros_like(absent_B1T)


_packed.defvjp(_packed_forward, _packed_backward)


def _passes(spec: Spec):
  """The module that runs both passes over a stream of this length."""
  return whole if spec.whole else steps
