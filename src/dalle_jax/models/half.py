"""Numbers of fewer bits, emulated in float32, and the scaling of gradients that they need (paper 2.4, appendix D).

    rounded   fewer bits, and fewer for the cotangent
    leave     the end of a branch: its cotangent is multiplied by the scale, then what is not finite made 0
    enter     its beginning, and its weights: the gradient is divided by the scale, then what is not finite made 0

Between the two a gradient is of the scale's size. What happens to it is counted: a gauge holds zeros, whose cotangent
is the counts NOT_FINITE, LOST (to zero, by rounding) and SEEN (not zero before it).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dalle_jax.errors import UserError

NOT_FINITE, LOST, SEEN = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """Bits of exponent and mantissa: 5 and 10 are float16's, 8 and 23 float32's, which changes nothing.

  As `lax.reduce_precision` has it there are no subnormal numbers: of float16 what is below 2^-14 is 0.
  """

  exponent: int = 5
  mantissa: int = 10

  def __post_init__(self) -> None:
    if not (2 <= self.exponent <= 8 and 1 <= self.mantissa <= 23):
      raise UserError(
        f"got a format of {self.exponent} bits of exponent and {self.mantissa} of mantissa, wanted 2 to 8 and 1 to 23"
      )


class Gauge(NamedTuple):
  """Of a branch: the scale of its gradient, and three zeros whose cotangent is what was counted."""

  scale: Float[Array, "*S"]
  zeros: Float[Array, "*S 3"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rounded(x: Float[Array, "..."], gauge: Gauge, form: Format) -> Float[Array, "..."]:
  """x, and its cotangent, in so few bits."""
  del gauge
  return _round(x, form)


def _rounded_forward(x: Array, gauge: Gauge, form: Format) -> tuple[Array, Gauge]:
  return rounded(x, gauge, form), gauge


def _rounded_backward(form: Format, gauge: Gauge, g: Array) -> tuple[Array, Gauge]:
  small = _round(g, form)
  lost, seen = jnp.sum((g != 0) & (small == 0)), jnp.sum(g != 0)
  return small, _counted(gauge, lost=lost, seen=seen)


rounded.defvjp(_rounded_forward, _rounded_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def leave(x: Float[Array, "..."], gauge: Gauge, filters: bool) -> Float[Array, "..."]:
  """x, where a branch ends. filters: whether what is not finite in the cotangent becomes 0."""
  del gauge, filters
  return x


def _leave_forward(x: Array, gauge: Gauge, filters: bool) -> tuple[Array, Gauge]:
  return leave(x, gauge, filters), gauge


def _leave_backward(filters: bool, gauge: Gauge, g: Array) -> tuple[Array, Gauge]:
  return _filtered(g * gauge.scale, filters), _counted(gauge)


leave.defvjp(_leave_forward, _leave_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def enter(x: Float[Array, "..."], gauge: Gauge, filters: bool) -> Float[Array, "..."]:
  """x, where a branch reads it. filters: as of `leave`; what is not finite is counted before."""
  del gauge, filters
  return x


def _enter_forward(x: Array, gauge: Gauge, filters: bool) -> tuple[Array, Gauge]:
  return enter(x, gauge, filters), gauge


def _enter_backward(filters: bool, gauge: Gauge, g: Array) -> tuple[Array, Gauge]:
  return _filtered(g / gauge.scale, filters), _counted(gauge, not_finite=jnp.sum(~jnp.isfinite(g)))


enter.defvjp(_enter_forward, _enter_backward)


def _round(x: Array, form: Format) -> Array:
  return jax.lax.reduce_precision(x, form.exponent, form.mantissa)


def _filtered(g: Array, filters: bool) -> Array:
  return jnp.where(jnp.isfinite(g), g, 0) if filters else g


def _counted(gauge: Gauge, not_finite: Array | int = 0, lost: Array | int = 0, seen: Array | int = 0) -> Gauge:
  counts = jnp.stack([jnp.asarray(n, jnp.float32) for n in (not_finite, lost, seen)])
  return Gauge(jnp.zeros_like(gauge.scale), counts)
