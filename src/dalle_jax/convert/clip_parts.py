"""What several parts of a published CLIP's file have alike."""

import math

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.clip_names import Names
from dalle_jax.convert.taking import Taking
from dalle_jax.errors import UserError


def linear(taking: Taking, name: str, before: int, after: int) -> PyTree:
  """A linear map and its bias."""
  kernel = taking.take(f"{name}.weight", after, before)
  return {"kernel": np.ascontiguousarray(kernel.T), "bias": taking.take(f"{name}.bias", after)}


def norm(taking: Taking, name: str, width: int) -> PyTree:
  """A layer norm."""
  return {"scale": taking.take(f"{name}.weight", width), "bias": taking.take(f"{name}.bias", width)}


def head(taking: Taking, names: Names, name: str, width: int, embed: int) -> np.ndarray:
  """A map into the shared space, without a bias."""
  if names.heads_turned:
    return np.ascontiguousarray(taking.take(name, embed, width).T)
  return taking.take(name, width, embed)


def side(taking: Taking, name: str) -> int:
  """Of the square grid that a table of positions is for, one of them the class token's or the mean's."""
  rows, _ = taking.shape(name, 2)
  side = math.isqrt(rows - 1)
  if side < 1 or side**2 + 1 != rows:
    raise UserError(f"{name} of this CLIP has {rows} rows: one more than a square number is wanted")
  return side
