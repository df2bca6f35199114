"""Inception v3 as FID and the Inception Score know it: the network of December 2015, ported from TensorFlow.

It is Inception v3 (Szegedy et al. 2015) but for its pooling: averages leave the padding out of their count, and the
last block takes the maximum where the others average. FID (Heusel et al. 2017) reads the 2048 numbers of its last
average; the Inception Score (Salimans et al. 2016) its 1008 logits, without the last layer's bias. Features of 64, 192
and 768 numbers are the averages of earlier maps, for fewer pictures.

Everything is float32 with products at the highest precision, so that a GPU or a TPU gives what a CPU gives. Pictures
may be of any size from 75 pixels a side; the network was trained with 299, and evaluation/resize.py gets them there.

B batch, H W pixels or positions, C D channels, K classes.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from dalle_jax.errors import UserError
from dalle_jax.models.inception_layout import PARTS, Branch, Conv

SIDE = 299
DIMS = tuple(PARTS)
EPSILON = 1e-3  # of the norms' variance
CHANNELS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The published network's sizes. thin: every width is divided by it (1, 2, 4, 8 or 16), for tests."""

  classes: int = 1008
  thin: int = 1

  def __post_init__(self) -> None:
    if self.classes < 1:
      raise UserError(f"Inception's classes are {self.classes}: there must be at least 1")
    if self.thin not in (1, 2, 4, 8, 16):
      raise UserError(f"Inception's thin is {self.thin}: 1, 2, 4, 8 or 16 divides every width")


class Outputs(NamedTuple):
  """features_BD: means of the map asked for; logits_BK: without the last layer's bias (None before the last map)."""

  features_BD: Float[Array, "B D"]
  logits_BK: Float[Array, "B K"] | None


def shapes(cfg: Config) -> PyTree:
  """The parameters' shapes: a convolution's kernel [h, w, in, out], scale, bias, mean, variance; fc's kernel, bias."""
  tree: dict[str, Any] = {}
  channels = CHANNELS
  for part in PARTS.values():
    for name, branches in part:
      inside, out = {}, 0
      for branch in branches:
        found, width = _branch_shapes(branch, channels, cfg.thin)
        inside.update(found)
        out += width
      tree.update({name: inside} if name else inside)
      channels = out
  return tree | {"fc": {"kernel": (channels, cfg.classes), "bias": (cfg.classes,)}}


def _branch_shapes(branch: Branch, channels: int, thin: int) -> tuple[dict[str, Any], int]:
  found = {}
  for step in branch.steps:
    convs, out = step if isinstance(step, tuple) else (step,), 0
    for conv in convs:
      width = conv.width // thin
      norm = dict.fromkeys(("scale", "bias", "mean", "variance"), (width,))
      found[conv.name] = {"kernel": (*conv.kernel, channels, width)} | norm
      out += width
    channels = out
  return found, channels


def embed(params: PyTree, x_BHWC: Float[Array, "B H W 3"], dim: int = DIMS[-1]) -> Outputs:
  """The features of `dim` numbers, of pictures in [-1, 1]; nothing is computed that they do not need.

  params: float32, of the shapes of `shapes`. Raises UserError for a dim that is not one of DIMS.
  """
  if dim not in DIMS:
    raise UserError(f"Inception has no features of {dim} numbers: wanted one of {', '.join(map(str, DIMS))}")
  for last, part in PARTS.items():
    for name, branches in part:
      x_BHWC = _block(params[name] if name else params, x_BHWC, branches)
    if last == dim:
      break
  features_BD = x_BHWC.mean(axis=(1, 2))
  if dim != DIMS[-1]:
    return Outputs(features_BD, None)
  return Outputs(features_BD, jnp.dot(features_BD, params["fc"]["kernel"], precision=lax.Precision.HIGHEST))


def with_bias(params: PyTree, logits_BK: Float[Array, "B K"]) -> Float[Array, "B K"]:
  """The logits with the last layer's bias: the class probabilities that the network was trained for."""
  return logits_BK + params["fc"]["bias"][None]


def _block(params: PyTree, x_BHWC: Array, branches: tuple[Branch, ...]) -> Array:
  outs = []
  for branch in branches:
    y_BHWC = branch.pool(x_BHWC) if branch.pool else x_BHWC
    for step in branch.steps:
      if isinstance(step, tuple):
        y_BHWC = jnp.concatenate([_conv(params[conv.name], y_BHWC, conv) for conv in step], axis=-1)
      else:
        y_BHWC = _conv(params[step.name], y_BHWC, step)
    outs.append(y_BHWC)
  return jnp.concatenate(outs, axis=-1)


def _conv(params: PyTree, x_BHWC: Array, conv: Conv) -> Array:
  y_BHWC = lax.conv_general_dilated(
    x_BHWC,
    params["kernel"],
    window_strides=(conv.stride, conv.stride),
    padding="VALID" if conv.valid or conv.stride > 1 else "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=lax.Precision.HIGHEST,
  )
  factor_C = params["scale"] * lax.rsqrt(params["variance"] + EPSILON)
  offset_C = params["bias"] - params["mean"] * factor_C
  return jax.nn.relu(y_BHWC * factor_C.reshape(1, 1, 1, -1) + offset_C.reshape(1, 1, 1, -1))
