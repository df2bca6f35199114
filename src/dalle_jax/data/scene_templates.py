"""Every kind of object at every quarter-pixel offset, sharp and blurred, and the squared error of drawing one.

Drawing an object over a base B makes B (1 - a) + u c + v k: its cover is a = u + v, of which u has the colour c and v
the stripes' k. With E = picture - B and weights w, the squared error falls or rises by

  sum_p w [2 a E.B + a^2 B.B - 2 u E.c - 2 v E.k - 2 a u B.c - 2 a v B.k + u^2 c.c + v^2 k.k + 2 u v c.k]

a matrix product of nine maps of the picture (`error_maps`) and nine maps of each template (`bank`).

Legend: M objects to place, S picture side, P padded side, F the nine maps, T templates, C channels, K window.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from dalle_jax.data import scene_drawing, scene_layout, scenes

SIDE = 32  # pixels of a picture that is read: one for each unit
REACH = 9  # pixels from a window's centre to its edge; the largest object's half width is 7.2
WINDOW = 2 * REACH + 1
OPEN = 4.2  # pixels: the radius of what a rim leaves open
_BLURS = (0.0, 0.9)  # standard deviations in pixels: what a discrete VAE leaves of an outline
_OFFSETS = (-0.5, -0.25, 0.0, 0.25)  # whole pixels among them: where the centres are


class Template(NamedTuple):
  shape: str
  size: str
  texture: str
  x: float  # of its centre from the centre of a pixel
  y: float
  blur: float
  rim: bool  # only its rim: something may be inside


def _templates() -> tuple[Template, ...]:
  forms = itertools.product(scenes.SHAPES, scenes.SIZES, scenes.TEXTURES)
  whole = [Template(*form, x, y, blur, False) for form in forms for x in _OFFSETS for y in _OFFSETS for blur in _BLURS]
  rims = [Template(shape, "large", "solid", -0.5, -0.5, 0.9, True) for shape in scene_layout.CONTAINS]
  return (*whole, *rims)


# Which of the templates a search tries: each form between the pixels, where the centres of scenes of 32 pixels are, and
# rims; the same half a pixel lower too, where those of larger scenes may be, and stripes lie elsewhere; offsets half a
# pixel apart; all but rims.
TEMPLATES = _templates()
COARSE = tuple(i for i, t in enumerate(TEMPLATES) if t.x == t.y == -0.5 and t.blur > 0)
COARSE_LARGER = tuple(i for i, t in enumerate(TEMPLATES) if t.x == -0.5 and t.y in (-0.5, 0.0) and t.blur > 0)
MEDIUM = tuple(i for i, t in enumerate(TEMPLATES) if {t.x, t.y} <= {-0.5, 0.0} and t.blur > 0 and not t.rim)
FINE = tuple(i for i, t in enumerate(TEMPLATES) if not t.rim)


def _contains(t: Template) -> bool:
  return (t.size, t.texture) == ("large", "solid") and t.shape in scene_layout.CONTAINS


@functools.cache
def covers() -> tuple[Float[np.ndarray, "T K K"], Float[np.ndarray, "T K K"]]:
  """Cover by the object's own colour (u) and by its stripes (v), of every template in its window."""
  pixel_K = np.arange(WINDOW, dtype=np.float32) - REACH
  plain, striped = [], []
  for t in TEMPLATES:
    x_K, y_K = pixel_K - t.x, pixel_K - t.y
    cover_KK, stripe_K = scene_drawing.coverage(t.shape, t.size, t.texture, x_K, y_K, 1.0)
    if t.rim:
      cover_KK = cover_KK * (np.hypot(x_K, y_K[:, None]) > OPEN)
    plain.append(ndimage.gaussian_filter(cover_KK * (1 - stripe_K[:, None]), t.blur, mode="constant"))
    striped.append(ndimage.gaussian_filter(cover_KK * stripe_K[:, None], t.blur, mode="constant"))
  return np.stack(plain).astype(np.float32), np.stack(striped).astype(np.float32)


@functools.cache
def bank(templates: tuple[int, ...]) -> Float[np.ndarray, "KKF T"]:
  """The nine maps of these templates."""
  u_TKK, v_TKK = (each[list(templates)] for each in covers())
  a_TKK = u_TKK + v_TKK
  features = (a_TKK, a_TKK**2, u_TKK, v_TKK, a_TKK * u_TKK, a_TKK * v_TKK, u_TKK**2, v_TKK**2, u_TKK * v_TKK)
  return np.ascontiguousarray(np.stack(features, axis=-1).reshape(len(u_TKK), -1).T)


def error_maps(
  picture_MSSC: Float[np.ndarray, "M S S C"],
  base_MSSC: Float[np.ndarray, "M S S C"],
  weight_MSS: Float[np.ndarray, "M S S"],
  colour_MC: Float[np.ndarray, "M C"],
  strict: float = 0.0,
) -> Float[np.ndarray, "M P P F"]:
  """The nine maps of each picture, padded by REACH with zeros: outside the frame nothing costs anything.

  With `strict`, the error left where the object covers counts that many times more, so that an object that explains its
  pixels well beats a larger one that is half right about two.
  """
  stripe_C = np.asarray(scenes.STRIPE, np.float32) / 255
  error_MSSC = picture_MSSC - base_MSSC
  ink_M11C = colour_MC[:, None, None]
  maps_MPPF = np.zeros((len(picture_MSSC), SIDE + 2 * REACH, SIDE + 2 * REACH, 9), np.float32)
  inner_MSSF = maps_MPPF[:, REACH:-REACH, REACH:-REACH]
  inner_MSSF[..., 0] = 2 * _dot(error_MSSC, base_MSSC)
  inner_MSSF[..., 1] = _dot(base_MSSC, base_MSSC)
  inner_MSSF[..., 2] = -2 * _dot(error_MSSC, ink_M11C)
  inner_MSSF[..., 3] = -2 * error_MSSC @ stripe_C
  inner_MSSF[..., 4] = -2 * _dot(base_MSSC, ink_M11C)
  inner_MSSF[..., 5] = -2 * base_MSSC @ stripe_C
  inner_MSSF[..., 6] = (ink_M11C**2).sum(-1)
  inner_MSSF[..., 7] = stripe_C @ stripe_C
  inner_MSSF[..., 8] = 2 * (ink_M11C @ stripe_C)
  if strict:
    inner_MSSF *= 1 + strict
    inner_MSSF[..., 0] += strict * _dot(error_MSSC, error_MSSC)
  inner_MSSF *= weight_MSS[..., None]
  return maps_MPPF


def _dot(a, b):
  """The dot product over colour channels; on an axis of three, `einsum` is several times faster than a sum."""
  return np.einsum("...c,...c->...", a, b)


def place(
  maps_MPPF: Float[np.ndarray, "M P P F"],
  pixel_M2: Int[np.ndarray, "M 2"],
  *,
  radius: int,
  templates: tuple[int, ...],
  container_M: Bool[np.ndarray, " M"],
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, "M 2"], Float[np.ndarray, " M"]]:
  """The best of `templates` for each object, its (row, column) within `radius` of pixel_M2, and the error it adds.

  Those that are to be containers get only templates of containers.
  """
  rows, bank_KT = np.arange(len(maps_MPPF)), bank(templates)
  best_M, which_M, where_M2 = np.full(len(rows), np.inf, np.float32), np.zeros(len(rows), np.int64), pixel_M2.copy()
  window_K = np.arange(WINDOW)
  barred_MT = container_M[:, None] & ~np.array([_contains(TEMPLATES[t]) for t in templates])
  for step in itertools.product(range(-radius, radius + 1), repeat=2):
    at_M2 = np.clip(pixel_M2 + np.array(step), 0, SIDE - 1)
    y_MK1, x_M1K = (at_M2[:, :1] + window_K)[:, :, None], (at_M2[:, 1:] + window_K)[:, None, :]
    error_MT = maps_MPPF[rows[:, None, None], y_MK1, x_M1K].reshape(len(rows), -1) @ bank_KT
    error_MT[barred_MT] = np.inf
    least_M = error_MT.min(1)
    better_M = least_M < best_M
    which_M[better_M] = error_MT.argmin(1)[better_M]
    where_M2[better_M] = at_M2[better_M]
    best_M = np.minimum(best_M, least_M)
  return np.asarray(templates)[which_M], where_M2, best_M
