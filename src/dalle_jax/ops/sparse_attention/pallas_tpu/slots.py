"""The stream as the kernels read it: heads side by side in lanes, tokens in their slots.

B batch, L stream, H heads, K head dim, S slots, D lanes of all groups of heads.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dalle_jax.ops.sparse_attention import slots
from dalle_jax.ops.sparse_attention.pallas_tpu.spec import LANES, Spec


def pack(x_BLHK: Float[Array, "B L H K"], spec: Spec) -> Float[Array, "B S D"]:
  """Groups are filled with heads of zeros, and slots without a token with zeros; columns become rows here or later."""
  batch, length, heads, head_dim = x_BLHK.shape
  x_BLD = x_BLHK.reshape(batch, length, heads * head_dim)
  x_BLD = jnp.pad(x_BLD, ((0, 0), (0, 0), (0, -heads * head_dim % LANES)))
  return x_BLD if spec.transposes else slots.pack(x_BLD, spec.plan)


def unpack(x_BSD: Float[Array, "B S D"], spec: Spec, heads: int) -> Float[Array, "B L H K"]:
  """The way back."""
  x_BLD = x_BSD if spec.transposes else slots.unpack(x_BSD, spec.plan)
  return x_BLD[:, :, : heads * spec.head_dim].reshape(*x_BLD.shape[:2], heads, spec.head_dim)
