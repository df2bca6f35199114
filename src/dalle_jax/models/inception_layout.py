"""How Inception v3 is put together: its convolutions, branches, blocks and pools, as data.

B batch, H W positions, C channels.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


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
