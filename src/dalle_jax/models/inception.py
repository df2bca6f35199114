"""Inception v3 as FID and the Inception Score know it: the network of December 2015, ported from TensorFlow.

It is Inception v3 (Szegedy et al. 2015) but for its pooling: averages leave the padding out of their count, and the
last block takes the maximum where the others average. FID (Heusel et al. 2017) reads the 2048 numbers of its last
average; the Inception Score (Salimans et al. 2016) its 1008 logits, without the last layer's bias. Features of 64, 192
and 768 numbers are the averages of earlier maps, for fewer pictures.

Everything is float32 with products at the highest precision, so that a GPU or a TPU gives what a CPU gives. The network
takes pictures of any size from 75 pixels a side; 299 is what it was trained with (evaluation/resize.py gets them there).

B batch, H W pixels or positions, C D channels, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from dalle_jax.errors import UserError

SIDE = 299
DIMS = (64, 192, 768, 2048)
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


def maximum(x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
  """Of 3x3 neighbours."""
  return lax.reduce_window(x_BHWC, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")


def halved(x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
  """The maximum of 3x3, at every second position, without padding."""
  return lax.reduce_window(x_BHWC, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def average(x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
  """Of those 3x3 neighbours that are inside the picture."""
  around = functools.partial(
    lax.reduce_window, init_value=0.0, computation=lax.add, window_dimensions=(1, 3, 3, 1), window_strides=(1,) * 4
  )
  inside_1HW1 = jnp.ones((1, *x_BHWC.shape[1:3], 1), x_BHWC.dtype)
  return around(x_BHWC, padding="SAME") / around(inside_1HW1, padding="SAME")


@dataclasses.dataclass(frozen=True)
class Conv:
  """A convolution to `width` channels, its norm and ReLU. stride 2 is without padding, as `valid` is."""

  name: str
  width: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  valid: bool = False


@dataclasses.dataclass(frozen=True)
class Branch:
  """pool, then steps one after the other; those of a tuple stand side by side, their channels one after the other."""

  steps: tuple[Conv | tuple[Conv, ...], ...]
  pool: Callable[[Array], Array] | None = None


def _a(pooled: int) -> tuple[Branch, ...]:
  return (
    Branch((Conv("branch1x1", 64),)),
    Branch((Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5)))),
    Branch((Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3)))),
    Branch((Conv("branch_pool", pooled),), average),
  )


def _b() -> tuple[Branch, ...]:
  return (
    Branch((Conv("branch3x3", 384, (3, 3), 2),)),
    Branch((Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3), 2))),
    Branch((), halved),
  )


def _c(inner: int) -> tuple[Branch, ...]:
  return (
    Branch((Conv("branch1x1", 192),)),
    Branch((Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, (1, 7)), Conv("branch7x7_3", 192, (7, 1)))),
    Branch(
      (
        Conv("branch7x7dbl_1", inner),
        Conv("branch7x7dbl_2", inner, (7, 1)),
        Conv("branch7x7dbl_3", inner, (1, 7)),
        Conv("branch7x7dbl_4", inner, (7, 1)),
        Conv("branch7x7dbl_5", 192, (1, 7)),
      )
    ),
    Branch((Conv("branch_pool", 192),), average),
  )


def _d() -> tuple[Branch, ...]:
  return (
    Branch((Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), 2))),
    Branch(
      (
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, (3, 3), 2),
      )
    ),
    Branch((), halved),
  )


def _e(pool: Callable[[Array], Array]) -> tuple[Branch, ...]:
  wide_high = lambda name: (Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1)))  # noqa: E731
  return (
    Branch((Conv("branch1x1", 320),)),
    Branch((Conv("branch3x3_1", 384), wide_high("branch3x3_2"))),
    Branch((Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, (3, 3)), wide_high("branch3x3dbl_3"))),
    Branch((Conv("branch_pool", 192),), pool),
  )


def _alone(conv: Conv) -> tuple[Branch, ...]:
  return (Branch((conv,)),)


# By the dimension of the features that its maps' means are: blocks by name. A block without a name has no weights.
PARTS: dict[int, tuple[tuple[str, tuple[Branch, ...]], ...]] = {
  64: (
    ("", _alone(Conv("Conv2d_1a_3x3", 32, (3, 3), 2))),
    ("", _alone(Conv("Conv2d_2a_3x3", 32, (3, 3), valid=True))),
    ("", _alone(Conv("Conv2d_2b_3x3", 64, (3, 3)))),
    ("", (Branch((), halved),)),
  ),
  192: (
    ("", _alone(Conv("Conv2d_3b_1x1", 80))),
    ("", _alone(Conv("Conv2d_4a_3x3", 192, (3, 3), valid=True))),
    ("", (Branch((), halved),)),
  ),
  768: (
    ("Mixed_5b", _a(32)),
    ("Mixed_5c", _a(64)),
    ("Mixed_5d", _a(64)),
    ("Mixed_6a", _b()),
    ("Mixed_6b", _c(128)),
    ("Mixed_6c", _c(160)),
    ("Mixed_6d", _c(160)),
    ("Mixed_6e", _c(192)),
  ),
  2048: (("Mixed_7a", _d()), ("Mixed_7b", _e(average)), ("Mixed_7c", _e(maximum))),
}


def shapes(cfg: Config) -> PyTree:
  """The parameters' shapes: of each convolution its kernel [h, w, in, out], scale, bias, mean and variance; of fc two."""
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
