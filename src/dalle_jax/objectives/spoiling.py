"""Spoilt pictures: with a few parts taken from another of the batch.

They fit no caption quite, so a CLIP that has them among its negatives ranks malformed pictures low.

B batch, G G blocks of a picture, H W pixels.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray, UInt8


def pictures(
  images_BHWC: UInt8[Array, "B H W 3"], share: float, grid: int, key: PRNGKeyArray
) -> tuple[UInt8[Array, "B H W 3"], Bool[Array, " B"]]:
  """Each picture with up to `share` of its grid x grid blocks, at least one, from the one before it in the batch.

  Beside them, which came out unchanged: pictures are alike in many places.
  """
  b, side = images_BHWC.shape[0], images_BHWC.shape[1] // grid
  taken_BGG = _some((b, grid, grid), share, key)
  taken_BHW1 = taken_BGG.repeat(side, axis=1).repeat(side, axis=2)[..., None]
  spoilt_BHWC = jnp.where(taken_BHW1, jnp.roll(images_BHWC, 1, axis=0), images_BHWC)
  return spoilt_BHWC, jnp.all(spoilt_BHWC == images_BHWC, axis=(1, 2, 3))


def _some(shape: tuple[int, ...], share: float, key: PRNGKeyArray) -> Bool[Array, "..."]:
  """For each of the batch a share of its own, evenly from 0 to `share`, of all places."""
  key_share, key_where = jax.random.split(key)
  rows = (shape[0], *[1] * (len(shape) - 1))
  shares = jax.random.uniform(key_share, rows, maxval=share)
  return jax.random.uniform(key_where, shape) < shares
