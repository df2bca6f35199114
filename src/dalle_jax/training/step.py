"""The one train step: what dVAE, transformer and CLIP share.

    loss, gradient of objective.loss(params, frozen, batch, key, step)        key = fold_in(key(seed), step)
    (or their means over parts of the batch, one after the other)             key = fold_in(key, part)
    params, optimizer's state and moving average move on, unless the loss or gradient is not finite, or a spike (health)
    (some params by a rule of the objective's own, see Moves)

The gradient's mean over replicas is the compiler's, unless `reduce` has it compressed (see `training.powersgd`).
State is plain arrays, donated from step to step and laid out by the parameters' logical axes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.training import compression
from dalle_jax.training.optimizers import Optimizer, learning_rate
from dalle_jax.training.powersgd import PowerSGD

# Parameters are drawn with the key of a step that no run reaches.
INIT_STEP = 2**32 - 1
Q_STEP = 2**32 - 2  # PowerSGD's Q likewise

# On TPU, small models' gathers would be cut into pieces that are multiplied as they come in: products too small for the
# matrix units (2.4 times the cycles, of 350 million parameters on a v5e:2x4). On GPU, a kernel in a loop would run
# twice where its result is both used and kept (seen in a trace of 350 million parameters on an H200).
COMPILER_OPTIONS = {
  "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
  "gpu": {"xla_gpu_enable_dynamic_slice_fusion": False},
}

Metrics = dict[str, Array]


@runtime_checkable
class Objective(Protocol):
  """Why a model is trained: parameters to start from, and a loss."""

  def init(self, key: Any) -> Any:
    """Parameters, boxed with their logical axes by `sharding.axes`."""

  def loss(self, params: Any, frozen: Any, batch: Mapping[str, Any], key: Any, step: Any) -> tuple[Any, Metrics]:
    """The scalar to minimise and further scalars to report; frozen holds parameters that are not trained here."""


@runtime_checkable
class Moves(Protocol):
  """An objective that moves some of its parameters by a rule of its own, and gives them no gradient."""

  def moved(self, before: Any, params: Any, batch: Mapping[str, Any], key: Any) -> Any:
    """The updated params with those moved on, by the batch and what all were before; `key` is the step's."""


@runtime_checkable
class Carrying(Objective, Protocol):
  """An objective that takes its gradient itself, by what it carries from step to step, updates left out or not."""

  def begin(self) -> Any:
    """What is carried before the first step."""

  def slope(
    self, params: Any, carried: Any, frozen: Any, batch: Mapping[str, Any], key: Any, step: Any
  ) -> tuple[tuple[Any, Metrics], Any, Any]:
    """((loss, metrics), gradient, what is carried on). An update is left out by a gradient that is not finite."""


class State(NamedTuple):
  """All that a run carries from one step to the next.

  step: batches seen; ema: moving average of params, or None; norms: logs of the last gradients' norms, see `health`;
  skipped: updates left out in a row, now, and in total, and how many of all were spikes; carried: see `Carrying`, None
  for other objectives; reduce: what PowerSGD keeps, or None.
  """

  step: Any
  params: Any
  opt: Any
  ema: Any
  norms: Any
  skipped: Any
  skipped_total: Any
  skipped_spikes: Any
  carried: Any = None
  reduce: Any = None


def abstract_state(
  objective: Objective, optimizer: Optimizer, *, mesh: Mesh, rules: sharding.Rules, reduce: PowerSGD | None = None
) -> State:
  """The state's shapes, dtypes and shardings, without computing anything.

  Raises UserError naming the parameter that does not divide over the mesh, or into the pieces of `reduce`.
  """
  boxed = jax.eval_shape(lambda: _boxed_state(objective, optimizer, 0))
  layout = sharding.shardings(boxed, mesh, rules)
  like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), sharding.unbox(boxed), layout)
  return like if reduce is None else like._replace(reduce=compression.abstract(reduce, like.params, mesh))


def init_state(
  objective: Objective,
  optimizer: Optimizer,
  *,
  seed: int,
  mesh: Mesh,
  rules: sharding.Rules,
  reduce: PowerSGD | None = None,
) -> State:
  """The state before the first step; each device computes its own part, and the numbers don't depend on the mesh.

  (But for PowerSGD's Q, which is of the pieces that matrices lie in.)
  """
  like = abstract_state(objective, optimizer, mesh=mesh, rules=rules, reduce=reduce)
  layout = jax.tree.map(lambda x: x.sharding, like)

  def begin() -> State:
    state = sharding.unbox(_boxed_state(objective, optimizer, seed))
    if reduce is None:
      return state
    key = jax.random.fold_in(jax.random.key(seed), jnp.uint32(Q_STEP))
    return state._replace(reduce=compression.begin(like.reduce, key))

  return jax.jit(begin, out_shardings=layout)()


def make_step(
  objective: Objective,
  optimizer: Optimizer,
  *,
  seed: int,
  mesh: Mesh,
  rules: sharding.Rules,
  accumulate: int = 1,
  reduce: PowerSGD | None = None,
) -> Callable[[State, Any, Mapping[str, Any]], tuple[State, Metrics]]:
  """The jitted step: (state, frozen, batch) -> (state, metrics). The state given is donated: use the one returned.

  Metrics are the objective's, and loss, grad_norm (before clipping), learning_rate, and what State says of skips.
  accumulate: parts of the batch that are taken one after the other, for objectives that are means over examples; a
  part's examples stand `accumulate` apart, so that each device keeps its own. Metrics are then means over the parts.
  reduce: None leaves the gradient's mean over the mesh to the compiler; PowerSGD averages the factors of what each
  replica has, for such objectives too; metrics are then means over replicas, with
  compression_error (see `compression.average`).
  Raises ValueError for parts of a batch, or PowerSGD, of an objective that is `Carrying`.
  """
  carries = isinstance(objective, Carrying)
  if carries and (accumulate > 1 or reduce is not None):
    asked = f"accumulate is {accumulate}" if reduce is None else "PowerSGD is asked for"
    raise ValueError(f"{asked}: {type(objective).__name__} takes the gradient of whole batches itself")
  like = abstract_state(objective, optimizer, mesh=mesh, rules=rules, reduce=reduce)
  layout = jax.tree.map(lambda x: x.sharding, like)
  transform = optimizer.build()
  gradient = _gradient(objective, accumulate, layout.params)
  if reduce is not None:
    averaged = _averaged(gradient, reduce, like.params, mesh, rules)

  def step(state: State, frozen: Any, batch: Mapping[str, Any]) -> tuple[State, Metrics]:
    with sharding.in_scope(mesh, rules):
      batch = {k: sharding.constrain(x, "batch", *[None] * (x.ndim - 1)) for k, x in batch.items()}
      key = jax.random.fold_in(jax.random.key(seed), state.step)
      carried, reduced, told = state.carried, None, {}
      if carries:
        (loss, metrics), grads, carried = objective.slope(state.params, carried, frozen, batch, key, state.step)
      elif reduce is None:
        (loss, metrics), grads = gradient(state.params, frozen, batch, key, state.step)
      else:
        (loss, metrics), grads, reduced, told = averaged(state, frozen, batch, key)
    grads = _laid_out(jax.tree.map(lambda g: g.astype(jnp.float32), grads), layout.params)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    passed = state.step - state.skipped_total
    spike = finite & optimizer.spikes.is_spike(state.norms, passed, norm)
    fine = finite & ~spike
    updates, opt = transform.update(grads, state.opt, state.params, value=loss)
    params = jax.tree.map(lambda p, u: p + u.astype(p.dtype), state.params, updates)
    if isinstance(objective, Moves):
      with sharding.in_scope(mesh, rules):
        params = objective.moved(state.params, params, batch, key)
    ema = _moved(optimizer, state, params)
    kept = lambda new, old: jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, old)  # noqa: E731
    new = State(
      step=state.step + 1,
      params=kept(params, state.params),
      opt=kept(opt, state.opt),
      ema=kept(ema, state.ema),
      norms=kept(optimizer.spikes.after(state.norms, passed, norm), state.norms),
      skipped=jnp.where(fine, 0, state.skipped + 1),
      skipped_total=state.skipped_total + ~fine,
      skipped_spikes=state.skipped_spikes + spike,
      carried=carried,
      reduce=kept(reduced, state.reduce),
    )
    counters = {name: getattr(new, name) for name in ("skipped", "skipped_total", "skipped_spikes")}
    own = {"loss": loss, "grad_norm": norm, "learning_rate": learning_rate(opt)}
    return new, {**metrics, **told, **own, **counters}

  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(layout, None, None),
    out_shardings=(layout, sharding.replicated(mesh)),
    compiler_options=COMPILER_OPTIONS.get(mesh.devices.flat[0].platform),
  )


def _gradient(objective: Objective, accumulate: int, layout: Any) -> Callable[..., Any]:
  """(params, frozen, batch, key, step) -> (loss, metrics), gradient."""
  slope = jax.value_and_grad(objective.loss, has_aux=True)

  def in_parts(params: Any, frozen: Any, batch: Mapping[str, Any], key: Any, step: Any) -> Any:
    part = lambda own, i: slope(params, frozen, own, jax.random.fold_in(key, i), step)  # noqa: E731
    return _mean_over_parts(part, batch, accumulate, layout)

  return slope if accumulate == 1 else in_parts


def _averaged(
  gradient: Callable[..., Any], reduce: PowerSGD, params: Any, mesh: Mesh, rules: sharding.Rules
) -> Callable[..., Any]:
  """(state, frozen, batch, key) -> (loss, metrics), gradient, what PowerSGD keeps, its metrics."""
  if sharding.REPLICAS not in rules.batch:
    raise UserError(f"PowerSGD's replicas lie along {sharding.REPLICAS}: rules.batch, {rules.batch}, must have it")
  cut = compression.matrices(reduce, params, mesh)
  layout = jax.tree.map(lambda x: x.sharding, params)
  apart = compression.apart(gradient, cut, layout, mesh, rules)

  def averaged(state: State, frozen: Any, batch: Mapping[str, Any], key: Any) -> Any:
    values, grads = apart(state.params, frozen, batch, key, state.step)
    own = jax.random.fold_in(key, jnp.uint32(Q_STEP))
    return values, *compression.average(reduce, cut, layout, mesh, grads, state.reduce, own, state.step)

  return averaged


def _mean_over_parts(part: Callable[..., Any], batch: Mapping[str, Any], parts: int, layout: Any) -> Any:
  """The mean of part(its examples, its number), whose gradients lie as the parameters do from the first one on."""

  def split(x: Array) -> Array:
    x = jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
    return sharding.constrain(x, None, "batch", *[None] * (x.ndim - 2))

  def add(total: Any, own: Any) -> tuple[Any, Any]:
    values, grads = part(*own)
    return _laid_out(jax.tree.map(lambda t, g: t + g.astype(jnp.float32), total, grads), layout), values

  split_batch = {name: split(x) for name, x in batch.items()}
  shapes = jax.tree.map(lambda x: x[0], split_batch)
  zeros = jax.tree.map(lambda g: jnp.zeros(g.shape, jnp.float32), jax.eval_shape(part, shapes, 0)[1])
  total, values = jax.lax.scan(add, _laid_out(zeros, layout), (split_batch, jnp.arange(parts)))
  return jax.tree.map(jnp.mean, values), jax.tree.map(lambda g: g / parts, total)


def _laid_out(tree: Any, layout: Any) -> Any:
  """The tree, laid out so; as it is on one device."""
  if next(iter(jax.tree.leaves(layout))).num_devices == 1:
    return tree
  return jax.lax.with_sharding_constraint(tree, layout)


def _boxed_state(objective: Objective, optimizer: Optimizer, seed: int) -> State:
  params = objective.init(jax.random.fold_in(jax.random.key(seed), jnp.uint32(INIT_STEP)))
  ema = None if optimizer.ema is None else jax.tree.map(jnp.copy, params)
  zero = jnp.zeros((), jnp.int32)
  return State(
    step=zero,
    params=params,
    opt=optimizer.build().init(params),
    ema=ema,
    norms=optimizer.spikes.begin(),
    skipped=zero,
    skipped_total=zero,
    skipped_spikes=zero,
    carried=objective.begin() if isinstance(objective, Carrying) else None,
  )


def _moved(optimizer: Optimizer, state: State, params: Any) -> Any:
  """The moving average after this step: moved towards params at every `ema_every`-th step, else as it was."""
  if optimizer.ema is None:
    return None
  rate = jnp.where((state.step + 1) % optimizer.ema_every == 0, 1 - optimizer.ema, 0.0)
  return jax.tree.map(lambda e, p: e + rate.astype(e.dtype) * (p - e), state.ema, params)
