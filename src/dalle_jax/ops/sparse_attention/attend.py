"""The one public function: attention under a pattern, by the implementation asked for.

B batch, L stream, H heads, K head dim.
"""

import functools
import logging
from collections.abc import Callable

from jaxtyping import Array, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import reference, xla
from dalle_jax.ops.sparse_attention.patterns import Pattern

IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {"reference": reference.attend, "xla": xla.attend}
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
  position that then sees nothing gets zeros. interpret: only kernels can be interpreted, and `reference` and `xla` are
  none.

  Raises UserError for an implementation that does not exist or shapes that do not belong to the pattern.
  """
  if len({q_BLHK.shape, k_BLHK.shape, v_BLHK.shape}) > 1 or q_BLHK.shape[1] != pattern.length:
    raise UserError(
      f"attention got q {q_BLHK.shape}, k {k_BLHK.shape}, v {v_BLHK.shape}: all must be [batch, {pattern.length}, "
      f"heads, head_dim] for {pattern.text} text and {pattern.grid}x{pattern.grid} image positions"
    )
  name = choose(pattern) if implementation == "auto" else implementation
  if name not in IMPLEMENTATIONS:
    raise UserError(f"no attention implementation {name!r}: choose one of auto, {', '.join(IMPLEMENTATIONS)}")
  if interpret:
    raise UserError(f"attention {name!r} is no kernel and can't be interpreted: leave interpret out")
  return IMPLEMENTATIONS[name](q_BLHK, k_BLHK, v_BLHK, pattern, text_lengths_B)


@functools.lru_cache(maxsize=64)
def choose(pattern: Pattern) -> str:
  """What `auto` means for a pattern, logged the first time it is asked."""
  name = "reference" if pattern.length < DENSE_BELOW else "xla"
  logging.getLogger("dalle_jax").info("attention: auto is %s for %s", name, pattern)
  return name
