"""The stream as the kernels read it: heads side by side in lanes, tokens in their slots.

B batch, L stream, H heads, K head dim, S slots, D lanes of all groups of heads.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dalle_jax.ops.sparse_attention.pallas_tpu.spec import LANES, Spec


def pack(x_BLHK: Float[Array, "B L H K"], spec: Spec) -> Float[Array, "B S D"]:
  """Groups are filled with heads of zeros, and slots without a token with zeros; columns become rows here or later."""
  plan, pattern = spec.plan, spec.plan.pattern
  batch, _, heads, head_dim = x_BLHK.shape
  x_BLD = x_BLHK.reshape(batch, pattern.length, heads * head_dim)
  x_BLD = jnp.pad(x_BLD, ((0, 0), (0, 0), (0, -heads * head_dim % LANES)))
  if plan.in_place or spec.transposes:
    return x_BLD
  text, image = x_BLD[:, : pattern.text], x_BLD[:, pattern.text :]
  text = jnp.pad(text, ((0, 0), (0, plan.text - pattern.text), (0, 0)))
  if pattern.kind != "full":
    image = image.reshape(batch, pattern.grid, pattern.grid, -1)
    image = image.swapaxes(1, 2) if pattern.kind == "column" else image
    image = jnp.pad(image, ((0, 0), (0, 0), (0, plan.row - pattern.grid), (0, 0))).reshape(batch, -1, image.shape[-1])
  image = jnp.pad(image, ((0, 0), (0, plan.image - image.shape[1]), (0, 0)))
  return jnp.concatenate([text, image], axis=1)


def unpack(x_BSD: Float[Array, "B S D"], spec: Spec, heads: int) -> Float[Array, "B L H K"]:
  """The way back."""
  plan, pattern = spec.plan, spec.plan.pattern
  batch, grid = x_BSD.shape[0], pattern.grid
  if not (plan.in_place or spec.transposes):
    text, image = x_BSD[:, : pattern.text], x_BSD[:, plan.text :]
    if pattern.kind == "full":
      image = image[:, : pattern.image]
    else:
      image = image[:, : grid * plan.row].reshape(batch, grid, plan.row, -1)[:, :, :grid]
      image = image.swapaxes(1, 2) if pattern.kind == "column" else image
      image = image.reshape(batch, pattern.image, -1)
    x_BSD = jnp.concatenate([text, image], axis=1)
  return x_BSD[:, :, : heads * spec.head_dim].reshape(batch, pattern.length, heads, spec.head_dim)
