"""The one public function: attention under a pattern, by the implementation asked for.

B batch, L stream, H heads, K head dim.
"""

import functools
import logging
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import cudnn, pallas_gpu, pallas_tpu, reference, splash, xla
from dalle_jax.ops.sparse_attention.kept import kept
from dalle_jax.ops.sparse_attention.patterns import Pattern

IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {
  "reference": reference.attend,
  "xla": xla.attend,
  "splash": splash.attend,
  "cudnn": cudnn.attend,
  "pallas_tpu": pallas_tpu.attend,
  "pallas_gpu": pallas_gpu.attend,
}
KERNELS = ("splash", "pallas_tpu", "pallas_gpu")  # those that can be interpreted
DTYPES = ("float32", "bfloat16", "float16")
DENSE_BELOW = 160  # streams shorter than this are no slower under a dense mask: two large products beat many small ones


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  *,
  pattern: Pattern,
  implementation: str = "auto",
  text_lengths_B: Int[Array, " B"] | None = None,
  interpret: bool = False,
) -> Float[Array, "B L H K"]:
  """Softmax attention over the positions that `pattern` lets each position see; q is scaled by 1/sqrt(K) here.

  Tokens are in raster order, differentiable in q, k and v. text_lengths_B: text keys at or past it are not seen; a
  position that then sees nothing gets zeros. interpret: runs a Pallas kernel's body on any device, slowly.

  Raises UserError for an implementation that does not exist, what it does not serve, or shapes that do not belong to
  the pattern; and when the program is lowered for a device that the implementation does not run on.
  """
  if len({q_BLHK.shape, k_BLHK.shape, v_BLHK.shape}) > 1 or q_BLHK.ndim != 4 or q_BLHK.shape[1] != pattern.length:
    raise UserError(
      f"attention got q {q_BLHK.shape}, k {k_BLHK.shape}, v {v_BLHK.shape}: all must be [batch, {pattern.length}, "
      f"heads, head_dim] for {pattern.text} text and {pattern.grid}x{pattern.grid} image positions"
    )
  if odd := {str(x.dtype) for x in (q_BLHK, k_BLHK, v_BLHK)} - set(DTYPES):
    raise UserError(f"attention takes {', '.join(DTYPES)}, got {', '.join(sorted(odd))}: cast q, k and v")
  if text_lengths_B is not None:
    _check_lengths(text_lengths_B, q_BLHK.shape[0])
  if implementation not in ("auto", *IMPLEMENTATIONS):
    raise UserError(f"no attention implementation {implementation!r}: choose one of auto, {', '.join(IMPLEMENTATIONS)}")
  if not q_BLHK.size:
    return jnp.zeros_like(v_BLHK)
  name = implementation
  if name == "auto":
    dtypes = (str(x.dtype) for x in (q_BLHK, k_BLHK, v_BLHK))
    chip = "hopper" if pallas_gpu.hopper() else sharding.platform()
    name = choose(pattern, chip, q_BLHK.shape[-1], *dtypes, lengths=text_lengths_B is not None)
  if interpret and name not in KERNELS:
    chosen = "'auto' is" if implementation == "auto" else "is"
    raise UserError(f"attention {chosen} {name!r}, no kernel, and can't be interpreted: leave interpret out")
  how = {"interpret": interpret} if name in KERNELS else {}
  o_BLHK = IMPLEMENTATIONS[name](q_BLHK, k_BLHK, v_BLHK, pattern, text_lengths_B, **how)
  return o_BLHK if name in KERNELS else kept(o_BLHK)[0]  # a kernel names its own, with its statistics


def _check_lengths(text_lengths_B: Int[Array, " B"], batch: int) -> None:
  if text_lengths_B.shape != (batch,):
    raise UserError(f"text_lengths_B is {text_lengths_B.shape}: one for each of {batch} examples is wanted")
  if not jnp.issubdtype(text_lengths_B.dtype, jnp.integer):
    raise UserError(f"text_lengths_B is {text_lengths_B.dtype}: whole numbers are wanted, such as int32")


@functools.lru_cache(maxsize=64)
def choose(pattern: Pattern, chip: str, head_dim: int, *dtypes: str, lengths: bool = False) -> str:
  """What `auto` means for a pattern on a chip ("cpu", "tpu", "gpu", "hopper"), logged the first time it is asked.

  lengths: whether texts have lengths of their own.
  """
  dense = pattern.length < DENSE_BELOW
  if chip == "tpu" and not pallas_tpu.unserved(pattern, head_dim, *dtypes):
    name = "pallas_tpu"
  elif chip == "hopper" and not dense and not pallas_gpu.unserved(pattern, head_dim, *dtypes, lengths=lengths):
    name = "pallas_gpu"
  else:
    name = "reference" if dense else "xla"
  logging.getLogger("dalle_jax").info("attention: auto is %s on %s for %s", name, chip, pattern)
  return name
