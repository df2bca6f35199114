"""The stream in the slots of a kernel's layout: text padded to whole tiles, rows of the grid padded to powers of two.

B batch, L stream, D features, S slots.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dalle_jax.ops.sparse_attention.tiles import Layout


def pack(x_BLD: Float[Array, "B L D"], plan: Layout) -> Float[Array, "B S D"]:
  """Slots without a token hold zeros; the grid's columns become rows where the layout has them so."""
  if plan.in_place:
    return x_BLD
  pattern = plan.pattern
  batch, features = x_BLD.shape[0], x_BLD.shape[-1]
  text, image = x_BLD[:, : pattern.text], x_BLD[:, pattern.text :]
  text = jnp.pad(text, ((0, 0), (0, plan.text - pattern.text), (0, 0)))
  if pattern.kind != "full":
    image = image.reshape(batch, pattern.grid, pattern.grid, features)
    image = image.swapaxes(1, 2) if pattern.kind == "column" else image
    image = jnp.pad(image, ((0, 0), (0, 0), (0, plan.row - pattern.grid), (0, 0))).reshape(batch, -1, features)
  image = jnp.pad(image, ((0, 0), (0, plan.image - image.shape[1]), (0, 0)))
  return jnp.concatenate([text, image], axis=1)


def unpack(x_BSD: Float[Array, "B S D"], plan: Layout) -> Float[Array, "B L D"]:
  """The way back."""
  if plan.in_place:
    return x_BSD
  pattern, grid = plan.pattern, plan.pattern.grid
  batch, features = x_BSD.shape[0], x_BSD.shape[-1]
  text, image = x_BSD[:, : pattern.text], x_BSD[:, plan.text :]
  if pattern.kind == "full":
    image = image[:, : pattern.image]
  else:
    image = image[:, : grid * plan.row].reshape(batch, grid, plan.row, features)[:, :, :grid]
    image = image.swapaxes(1, 2) if pattern.kind == "column" else image
    image = image.reshape(batch, pattern.image, features)
  return jnp.concatenate([text, image], axis=1)
