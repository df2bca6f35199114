"""PowerSGD: replicas exchange two thin factors of a matrix's gradient (Vogels et al. 2019; paper 2.5, App. E).

    G  = what was left of earlier gradients + gradient        on each replica
    P  = mean of G Q, made orthonormal                        [A, R]
    Q' = mean of Gᵀ P                                         [B, R]
    P Q'ᵀ is applied, and G - P Q'ᵀ is left                   on each replica

Here is what is done with one matrix; `training.compression` says with which, and on which devices.

A, B sides of a matrix, R rank; leading axes are matrices of their own.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from dalle_jax.errors import UserError

Mean = Callable[[Array], Array]
TINY = float(jnp.finfo(jnp.float32).tiny)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floats:
  """Numbers of so many bits of exponent and mantissa that stay below 2^top. Smaller ones than its least become 0.

  The paper's 1-6-9 format ends "just under 16" (App. E), so its least is 2^-58; float16 is exponent 5, mantissa 10,
  top 16, with the least 2^-14. As in `lax.reduce_precision`, there are no subnormal numbers.
  """

  exponent: int = 6
  mantissa: int = 9
  top: int = 4

  def __post_init__(self) -> None:
    if not (2 <= self.exponent <= 8 and 1 <= self.mantissa <= 23):
      raise UserError(
        f"got numbers of {self.exponent} bits of exponent and {self.mantissa} of mantissa, wanted 2 to 8 and 1 to 23"
      )
    if not 2 ** (self.exponent - 1) - 100 <= self.top <= 2 ** (self.exponent - 1):
      raise UserError(f"got top={self.top}, wanted {2 ** (self.exponent - 1)} or up to 100 less")

  def round(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The nearest of these numbers; what is too great, and infinity, is the greatest. NaN stays."""
    shift = 2.0 ** (2 ** (self.exponent - 1) - self.top)
    greatest = 2.0**self.top * (1 - 2.0 ** -(self.mantissa + 1))
    # Clamped first as well: times the shift, float32 itself would end.
    near = jax.lax.reduce_precision(jnp.clip(x, -greatest, greatest) * shift, self.exponent, self.mantissa) / shift
    return jnp.clip(near, -greatest, greatest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
  """Q is drawn once, and is the same in every step: the paper's way."""

  def after(self, old: Array, new: Array, key: PRNGKeyArray) -> Array:
    """The next step's Q."""
    del new, key
    return old


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmStart:
  """Q is the last step's Q'."""

  def after(self, old: Array, new: Array, key: PRNGKeyArray) -> Array:
    """The next step's Q."""
    del old, key
    return new


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resampled:
  """Q is drawn anew for every step."""

  def after(self, old: Array, new: Array, key: PRNGKeyArray) -> Array:
    """The next step's Q."""
    del new
    return jax.random.normal(key, old.shape, old.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Damped:
  """damping: times the identity, added before, so that a P without full rank has a basis too (paper: 1e-6).

  Here it is of a P whose greatest number is 1, so that it means the same whatever the gradient's size.
  """

  damping: float = 1e-6

  def __post_init__(self) -> None:
    if not 0 <= self.damping < 1:
      raise UserError(f"got damping={self.damping}, wanted 0 or more and less than 1: change how P is made orthonormal")

  def _damped(self, p_AR: Array) -> Array:
    greatest = jnp.max(jnp.abs(p_AR), axis=(-2, -1), keepdims=True)
    identity_AR = jnp.eye(*p_AR.shape[-2:], dtype=p_AR.dtype).reshape(*[1] * (p_AR.ndim - 2), *p_AR.shape[-2:])
    return p_AR / jnp.maximum(greatest, TINY) + self.damping * identity_AR


@dataclasses.dataclass(frozen=True, kw_only=True)
class Householder(_Damped):
  """Columns made orthonormal by reflections, as LAPACK's QR has it."""

  def __call__(self, p_AR: Float[Array, "*lead A R"]) -> Float[Array, "*lead A R"]:
    """An orthonormal basis of the columns, of which there may be no more than rows."""
    return jnp.linalg.qr(self._damped(p_AR), mode="reduced")[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GramSchmidt(_Damped):
  """Columns made orthonormal one after the other: each is divided by its length and taken out of those after it."""

  def __call__(self, p_AR: Float[Array, "*lead A R"]) -> Float[Array, "*lead A R"]:
    """The columns, orthonormal where rounding lets them be; one that the others before it make up is rounding alone."""
    count = p_AR.shape[-1]

    def take_out(i: Array, p: Array) -> Array:
      column = jax.lax.dynamic_slice_in_dim(p, i, 1, axis=-1)
      column = column / jnp.maximum(jnp.linalg.norm(column, axis=-2, keepdims=True), TINY)
      along = jnp.sum(column * p, axis=-2, keepdims=True) * (jnp.arange(count) > i).reshape(*[1] * (p.ndim - 1), count)
      return jax.lax.dynamic_update_slice_in_dim(p - column * along, column, i, axis=-1)

    return jax.lax.fori_loop(0, count, take_out, self._damped(p_AR))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerSGD:
  """How the gradients of the blocks' matrices are averaged over replicas.

  rank: of a whole matrix; each of the pieces that it lies in on a replica's devices has its share, and no more than
  its smaller side. Where there is one replica alone, what is applied is the factors of its own gradient.
  q: what is multiplied by first; orthogonal: how P is made orthonormal; zero_every: steps after which what is left of
  gradients is forgotten (1: it is never kept), None for never; floats: what factors and what is left are rounded to,
  None for float32.
  """

  rank: int
  q: Fixed | WarmStart | Resampled = Fixed()
  orthogonal: Householder | GramSchmidt = Householder()
  zero_every: int | None = None
  floats: Floats | None = None

  def __post_init__(self) -> None:
    if self.rank < 1:
      raise UserError(f"PowerSGD's rank is {self.rank}: it must be at least 1")
    if self.zero_every is not None and self.zero_every < 1:
      raise UserError(f"PowerSGD's zero_every is {self.zero_every}: at least 1 is wanted, or None for never")

  def factors(
    self, held_AB: Float[Array, "*lead A B"], q_BR: Float[Array, "*lead B R"], mean: Mean
  ) -> tuple[Float[Array, "*lead A R"], Float[Array, "*lead B R"]]:
    """P and Q' of what the replicas hold. mean: over replicas."""
    average = lambda x: self.rounded(mean(self.rounded(x)))  # noqa: E731
    p_AR = self.orthogonal(average(_product(held_AB, q_BR)))
    return p_AR, average(_product(jnp.swapaxes(held_AB, -1, -2), p_AR))

  def forgets(self, step: Array) -> Bool[Array, ""]:
    """Whether what is left is forgotten after this step."""
    return jnp.zeros((), bool) if self.zero_every is None else (step + 1) % self.zero_every == 0

  def rounded(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """As `floats` has it."""
    return x if self.floats is None else self.floats.round(x)


def whole(p_AR: Float[Array, "*lead A R"], q_BR: Float[Array, "*lead B R"]) -> Float[Array, "*lead A B"]:
  """The matrix of these factors."""
  return _product(p_AR, jnp.swapaxes(q_BR, -1, -2))


def _product(a: Array, b: Array) -> Array:
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
