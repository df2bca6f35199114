"""AdamW as the paper used it: clipping, a clamp on the second moment, decay on matrices alone, and plateau halving.

g    = gradient · min(1, clip / |gradient|)
m, v = b1 m + (1 - b1) g,  b2 v + (1 - b2) g²
m̂, v̂ = m / (1 - b1^n),  min(v, second_moment_clamp) / (1 - b2^n)
p    = p - lr · (m̂ / (√v̂ + eps) + decay · p)          decay for leaves named "kernel", others where asked for
"""

import abc
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dalle_jax.errors import UserError
from dalle_jax.schedules import Schedule
from dalle_jax.training.health import Spikes


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupPlateau:
  """Rises to `peak` in a straight line over `warmup` updates, then halves when the training loss stops falling.

  The losses of `window` updates are averaged; when `patience` averages in a row are not below the best one by the
  fraction `tolerance`, the rate is halved, at most `halvings` times (paper, appendix B.2: five halvings, by hand).
  """

  peak: float
  warmup: int
  window: int = 500
  patience: int = 10
  tolerance: float = 1e-4
  halvings: int = 5

  def __post_init__(self) -> None:
    if not 0 < self.peak < float("inf"):
      raise UserError(f"got peak={self.peak}, wanted a positive number: change the learning rate")
    if min(self.warmup, self.window, self.patience) < 1 or self.halvings < 0 or self.tolerance < 0:
      raise UserError(
        f"got warmup={self.warmup}, window={self.window}, patience={self.patience}, halvings={self.halvings}, "
        f"tolerance={self.tolerance}, wanted the first three at least 1 and the others at least 0"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
  """What is the same whatever direction a stage's parameters take.

  decay_norms, decay_embeddings: whether weight decay shrinks gains and biases, and tables of tokens and positions, too;
  clip: greatest norm of the whole gradient; ema: decay of the moving average of the parameters, taken every `ema_every`
  updates (paper: 0.99 and 25), None for none; spikes: which updates are left out because of their gradients' norm,
  beside those that are not finite; max_skipped: training stops after this many updates in a row that were left out.
  """

  lr: Schedule | WarmupPlateau
  decay: float = 0.0
  decay_norms: bool = False
  decay_embeddings: bool = False
  clip: float | None = None
  ema: float | None = None
  ema_every: int = 1
  spikes: Spikes = dataclasses.field(default_factory=Spikes)
  max_skipped: int = 10

  def __post_init__(self) -> None:
    if self.ema is not None and not 0 <= self.ema < 1:
      raise UserError(f"got ema={self.ema}, wanted 0 <= ema < 1: change the optimizer")
    if self.clip is not None and not 0 < self.clip < float("inf"):
      raise UserError(f"got clip={self.clip}, wanted a positive number: change the optimizer")
    if not 0 <= self.decay < float("inf"):
      raise UserError(f"got decay={self.decay}, wanted at least 0: change the optimizer")
    if (self.decay_norms or self.decay_embeddings) and not self.decay:
      raise UserError("got decay_norms or decay_embeddings with decay=0, wanted a decay that they can tell of")
    if self.ema_every < 1 or self.max_skipped < 1:
      raise UserError(f"got ema_every={self.ema_every}, max_skipped={self.max_skipped}, wanted at least 1 of each")

  def build(self) -> optax.GradientTransformationExtraArgs:
    """The transformation; `update` takes the training loss as `value`.

    Its state mirrors the parameters it is given, boxes and all, so `sharding.shardings` lays the moments out alike.
    """
    parts = [optax.clip_by_global_norm(self.clip)] if self.clip is not None else []
    parts.append(self.direction())
    if self.decay:
      mask = functools.partial(decay_mask, norms=self.decay_norms, embeddings=self.decay_embeddings)
      parts.append(optax.add_decayed_weights(self.decay, mask=mask))
    parts.append(scale_by_rate(self.lr))
    return optax.chain(*parts)

  @abc.abstractmethod
  def direction(self) -> optax.GradientTransformation:
    """What `build` scales by the rate, before decay."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
  """The optimizer of every stage of the paper. second_moment_clamp: greatest value of v that is used (paper: 5)."""

  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  second_moment_clamp: float | None = None

  def __post_init__(self) -> None:
    super().__post_init__()
    for name in ("b1", "b2"):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(f"got {name}={getattr(self, name)}, wanted 0 <= {name} < 1: change the optimizer")
    for name in ("eps", "second_moment_clamp"):
      value = getattr(self, name)
      if value is not None and not 0 < value < float("inf"):
        raise UserError(f"got {name}={value}, wanted a positive number: change the optimizer")

  def direction(self) -> optax.GradientTransformation:
    """What `build` scales by the rate, before decay."""
    return scale_by_clamped_adam(b1=self.b1, b2=self.b2, eps=self.eps, clamp=self.second_moment_clamp)


def decay_mask(params: Any, *, norms: bool = False, embeddings: bool = False) -> Any:
  """True for the leaves that weight decay shrinks: those named "kernel", and no others unless asked for.

  norms: gains and biases too; embeddings: tables of tokens and of positions too (DALLE-pytorch's early releases had
  both, and some of their users saw pictures go brown).
  """
  decaying = {"kernel"} | ({"scale", "bias"} if norms else set()) | ({"embedding"} if embeddings else set())

  def decays(path: tuple[Any, ...], leaf: Any) -> bool:
    del leaf
    names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
    return bool(names) and names[-1] in decaying

  return jax.tree_util.tree_map_with_path(decays, params)


class AdamState(NamedTuple):
  """Updates done, and the moving averages of the gradient and of its square."""

  count: Array
  m: Any
  v: Any


def scale_by_clamped_adam(*, b1: float, b2: float, eps: float, clamp: float | None) -> optax.GradientTransformation:
  """Adam's direction. With a clamp, v is clipped by value before it is used and kept as it is (paper, B.2)."""

  def init(params: Any) -> AdamState:
    m, v = (jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params) for _ in range(2))
    return AdamState(jnp.zeros((), jnp.int32), m, v)

  def update(grads: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
    del params
    count = state.count + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, grads)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.v, grads)
    m_scale, v_scale = 1 - b1 ** count.astype(jnp.float32), 1 - b2 ** count.astype(jnp.float32)

    def direction(m: Array, v: Array) -> Array:
      used = v if clamp is None else jnp.minimum(v, clamp)
      return (m / m_scale) / (jnp.sqrt(used / v_scale) + eps)

    return jax.tree.map(direction, m, v), AdamState(count, m, v)

  return optax.GradientTransformation(init, update)


class RateState(NamedTuple):
  """Updates done, the rate of the last one, and what the plateau's detector remembers."""

  count: Array
  rate: Array
  total: Array
  best: Array
  stalled: Array
  halvings: Array


def scale_by_rate(lr: Schedule | WarmupPlateau) -> optax.GradientTransformationExtraArgs:
  """Multiplies by minus the learning rate, which it keeps in its state for the metrics."""

  def init(params: Any) -> RateState:
    del params
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return RateState(none, zero, zero, jnp.full((), jnp.inf, jnp.float32), none, none)

  def update(
    updates: Any, state: RateState, params: Any = None, *, value: Array, **unused: Any
  ) -> tuple[Any, RateState]:
    del params, unused
    if isinstance(lr, WarmupPlateau):
      state = _observe(lr, state, value)
      warm = jnp.minimum((state.count + 1) / lr.warmup, 1.0)
      rate = lr.peak * warm * jnp.exp2(-state.halvings.astype(jnp.float32))
    else:
      rate = lr(state.count)
    rate = jnp.asarray(rate, jnp.float32)
    updates = jax.tree.map(lambda u: -rate * u, updates)
    return updates, state._replace(count=state.count + 1, rate=rate)

  return optax.GradientTransformationExtraArgs(init, update)


def learning_rate(opt_state: Any) -> Float[Array, ""]:
  """The rate of the last update, from the state of `Optimizer.build()`."""
  (state,) = [s for s in jax.tree.leaves(opt_state, is_leaf=_is_rate) if _is_rate(s)]
  return state.rate


def _is_rate(node: Any) -> bool:
  return isinstance(node, RateState)


def _observe(lr: WarmupPlateau, state: RateState, loss: Array) -> RateState:
  """Adds a loss to the window; at the window's end, compares its mean with the best one. Warm-up is not watched."""
  seen = state.count - lr.warmup + 1
  watching = seen > 0
  total = jnp.where(watching, state.total + loss, 0.0)
  closing = watching & (seen % lr.window == 0)
  mean = total / lr.window
  improved = mean < state.best * (1 - jnp.sign(state.best) * lr.tolerance)
  stalled = jnp.where(improved, 0, state.stalled + 1)
  halve = (stalled >= lr.patience) & (state.halvings < lr.halvings)
  return state._replace(
    total=jnp.where(closing, 0.0, total),
    best=jnp.where(closing & improved, mean, state.best),
    stalled=jnp.where(closing, jnp.where(halve, 0, stalled), state.stalled),
    halvings=jnp.where(closing & halve, state.halvings + 1, state.halvings),
  )
