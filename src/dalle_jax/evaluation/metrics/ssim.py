"""Structural similarity of two pictures (Wang, Bovik, Sheikh, Simoncelli 2004), with the settings of its authors.

B batch, H W pixels, C channels, h w places of the window.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


@jax.jit
def ssim(images_BHWC: UInt8[Array, "B H W C"], others_BHWC: UInt8[Array, "B H W C"]) -> Float[Array, " B"]:
  """The mean over channels and all places where the Gaussian window lies wholly within the picture; 1 if equal.

  Pixels are of 8 bits. Raises ValueError for pictures that are smaller than the window of 11 pixels.
  """
  if min(images_BHWC.shape[1:3]) < WINDOW:
    raise ValueError(f"SSIM looks at {WINDOW}x{WINDOW} pixels, and the pictures have {images_BHWC.shape[1:3]}")
  x, y = (images.astype(jnp.float32) / 255 for images in (images_BHWC, others_BHWC))
  mean_x, mean_y = _smooth(x), _smooth(y)
  # Differences from a mean are small beside the squares they are taken of: float32 leaves about 1e-6 of 1.
  var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
  covariance = _smooth(x * y) - mean_x * mean_y
  c1, c2 = K1**2, K2**2
  top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
  bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  return jnp.mean(top / bottom, axis=(1, 2, 3))


def _smooth(x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
  """The weighted mean under the window at every place: along rows, then along columns."""
  offsets = np.arange(WINDOW) - WINDOW // 2
  weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
  weights = weights / weights.sum()
  for axis in (1, 2):
    places = x_BHWC.shape[axis] - WINDOW + 1
    x_BHWC = sum(w * jax.lax.slice_in_dim(x_BHWC, i, i + places, axis=axis) for i, w in enumerate(weights.tolist()))
  return x_BHWC
