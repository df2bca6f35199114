"""cuDNN's attention with the pattern as a mask: on NVIDIA GPUs, dense work in one kernel, for comparison.

B batch, L stream, H heads, K head dim.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention.patterns import Pattern
from dalle_jax.ops.sparse_attention.platforms import only_on
from dalle_jax.ops.sparse_attention.shards import by_heads


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
) -> Float[Array, "B L H K"]:
  """What each position takes from those it sees, in the dtype of v. Raises UserError for what cuDNN does not serve."""
  if text_lengths_B is not None or pattern.softmax != "joint":
    raise UserError("cudnn serves softmax='joint' without text lengths: choose reference or xla")
  dtypes = {str(x.dtype) for x in (q_BLHK, k_BLHK, v_BLHK)}
  if dtypes not in ({"bfloat16"}, {"float16"}):
    raise UserError(f"cudnn takes q, k and v all bfloat16 or all float16, got {', '.join(sorted(dtypes))}: choose xla")
  head_dim = q_BLHK.shape[-1]
  if pattern.length % 2 or head_dim % 8 or head_dim > 128:
    raise UserError(
      f"cudnn serves an even number of positions and heads of 8, 16 ... 128, got {pattern.length} and {head_dim}: "
      "choose xla"
    )
  q_BLHK = only_on(q_BLHK, "cuda", "cudnn runs on NVIDIA GPUs: choose xla here")

  def run(q: Array, k: Array, v: Array) -> Array:
    if pattern.kind == "full":  # in either order every position sees all before it, which cuDNN knows without a mask
      how = {"is_causal": True}
    else:
      i = jnp.arange(pattern.length)
      how = {"mask": pattern.allowed(i[:, None], i[None, :])[None, None]}
    try:
      return jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **how)
    except RuntimeError as error:
      raise UserError(f"cudnn is not installed here ({error}): choose xla, or install dalle-jax[cuda]") from None

  return by_heads(run)(q_BLHK, k_BLHK, v_BLHK)
