"""Scenes to pixels, anti-aliased by the signed distance to each outline, at any size.

Legend: H W picture, C channels, h w a window of it.
"""

import numpy as np
from jaxtyping import Float, UInt8

from dalle_jax.data import scenes
from dalle_jax.errors import UserError

BAND = 1.4  # half the height of a black stripe in units; bands are at least 2.5 pixels high at 32x32
MARGIN = 2  # pixels around an object's box that its soft edge may reach


def draw(scene: scenes.Scene, size: int) -> UInt8[np.ndarray, "H W C"]:
  """The scene as a picture of size x size pixels. Later objects cover earlier ones where one is inside the other."""
  if size < 16:
    raise UserError(f"got a picture of {size} pixels, wanted at least 16 so that objects can be told apart")
  canvas_HWC = np.empty((size, size, 3), np.float32)
  canvas_HWC[:] = scenes.BACKGROUNDS[scene.background]
  scale = size / scenes.FRAME
  for each in sorted(scene.objects, key=lambda o: -o.half_extents[0] * o.half_extents[1]):
    (x, y), (half_x, half_y) = each.centre, each.half_extents
    left, right = max(0, int((x - half_x) * scale) - MARGIN), min(size, int((x + half_x) * scale) + MARGIN + 1)
    top, bottom = max(0, int((y - half_y) * scale) - MARGIN), min(size, int((y + half_y) * scale) + MARGIN + 1)
    x_w = (np.arange(left, right, dtype=np.float32) + 0.5) / scale - x
    y_h = (np.arange(top, bottom, dtype=np.float32) + 0.5) / scale - y
    cover_hw, stripe_h = coverage(each.shape, each.size, each.texture, x_w, y_h, scale)
    ink_hC = np.asarray(scenes.COLOURS[each.colour], np.float32) * (1 - stripe_h[:, None])
    ink_hC += np.asarray(scenes.STRIPE, np.float32) * stripe_h[:, None]
    window_hwC = canvas_HWC[top:bottom, left:right]
    window_hwC += cover_hw[:, :, None] * (ink_hC[:, None, :] - window_hwC)
  return (canvas_HWC + 0.5).astype(np.uint8)


def coverage(
  shape: str, size: str, texture: str, x_w: Float[np.ndarray, " w"], y_h: Float[np.ndarray, " h"], scale: float
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, " h"]]:
  """How much of each pixel the object covers, and how much of each row's ink is stripe, both in [0, 1].

  x_w and y_h are the pixels' centres relative to the object's, in units; `scale` is pixels for a unit.
  """
  grow = scenes.LARGE if size == "large" else 1.0
  distance_hw = _DISTANCES[shape](x_w[None, :] / grow, y_h[:, None] / grow)
  cover_hw = np.clip(0.5 - distance_hw * (grow * scale), 0, 1)
  if texture == "solid":
    return cover_hw, np.zeros_like(y_h)
  # One black band across a small object, two across a large one: the outermost bands always keep the colour.
  offset = 2.1 * BAND if size == "large" else 0.0
  return cover_hw, np.clip(0.5 - (np.abs(np.abs(y_h) - offset) - BAND) * scale, 0, 1)


# Signed distances of the small shapes, in units: negative inside, exact near the outline (which is all that is used).


def _circle(x, y):
  return np.sqrt(x * x + y * y) - 4.1


def _box(x, y, half_x, half_y):
  return np.maximum(np.abs(x) - half_x, np.abs(y) - half_y)


def _square(x, y):
  return _box(x, y, 3.65, 3.65)


def _triangle(x, y):
  half, height = 4.6, 8.4
  side = np.hypot(half, height)
  return np.maximum(y - height / 2, (np.abs(x) * height - (y + height / 2) * half) / side)


def _cross(x, y):
  return np.minimum(_box(x, y, 4.5, 1.55), _box(x, y, 1.55, 4.5))


def _heart(x, y):
  lobe = np.hypot(np.abs(x) - 2.0, y + 1.52) - 2.5  # two discs, and below them the corner whose sides touch both
  tip = np.maximum((np.abs(x) + y - 4.016) / np.sqrt(2), -1.52 - y)
  return np.minimum(lobe, tip)


_DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross, "heart": _heart}
