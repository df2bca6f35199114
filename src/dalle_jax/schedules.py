"""Schedules: a number as a function of the update's index, as configuration.

    t = clip(step / steps, 0, 1)
    Linear         start + (end - start) t
    Cosine half    start + (end - start) (1 - cos πt) / 2     the usual one; half way, half of the change is done
    Cosine quarter start + (end - start) (1 - cos πt/2)       slow at first, fastest at the end

Each is called with a Python int or a traced integer and stays at its end value after `steps`.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dalle_jax.errors import UserError

Step = int | jax.Array


@dataclasses.dataclass(frozen=True)
class Constant:
  """The same value at every step."""

  value: float

  def __post_init__(self) -> None:
    _check_finite(self)

  def __call__(self, step: Step) -> Float[Array, ""]:
    del step
    return jnp.float32(self.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
  """From `start` to `end` in a straight line over `steps` updates, then constant."""

  start: float
  end: float
  steps: int

  def __post_init__(self) -> None:
    _check_finite(self)
    _check_steps(self.steps, 0)

  def __call__(self, step: Step) -> Float[Array, ""]:
    return self.start + (self.end - self.start) * _fraction(step, 0, self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine:
  """From `start` to `end` along a cosine, ending at update `steps`, then constant.

  warmup: updates in which the value first rises from 0 to `start` in a straight line; they count among `steps`.
  shape: "half" or "quarter" of a period. The dVAE paper's word "cosine" does not say which; half is the usual reading.
  """

  start: float
  end: float
  steps: int
  warmup: int = 0
  shape: Literal["half", "quarter"] = "half"

  def __post_init__(self) -> None:
    _check_finite(self)
    _check_steps(self.steps, self.warmup)
    if self.shape not in ("half", "quarter"):
      raise UserError(f"got shape={self.shape!r}, wanted half or quarter: change the schedule")

  def __call__(self, step: Step) -> Float[Array, ""]:
    t = _fraction(step, self.warmup, self.steps)
    if self.shape == "half":
      done = (1 - jnp.cos(math.pi * t)) / 2
    else:
      done = 1 - jnp.cos(math.pi / 2 * t)
    value = self.start + (self.end - self.start) * done
    if not self.warmup:
      return value
    return jnp.where(jnp.asarray(step) < self.warmup, self.start * _fraction(step, 0, self.warmup), value)


Schedule = Constant | Linear | Cosine


def _fraction(step: Step, begin: int, end: int) -> Float[Array, ""]:
  return jnp.clip((jnp.asarray(step, jnp.float32) - begin) / (end - begin), 0.0, 1.0)


def _check_steps(steps: int, warmup: int) -> None:
  if steps < 1 or not 0 <= warmup < steps:
    raise UserError(f"got steps={steps}, warmup={warmup}, wanted 0 <= warmup < steps: change the schedule")


def _check_finite(schedule: Constant | Linear | Cosine) -> None:
  for field in dataclasses.fields(schedule):
    value = getattr(schedule, field.name)
    if isinstance(value, float) and not math.isfinite(value):
      raise UserError(f"got {field.name}={value}, wanted a finite number: change the schedule")
