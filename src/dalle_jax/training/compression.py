"""The blocks' matrices of a tree of gradients, cut as PowerSGD has them, and averaged over replicas by their factors.

A replica is the devices of one place along the mesh axis `data`. On them a matrix lies in pieces, each with factors of
its own (paper, Table 2): those of its longer side, whichever side its weights are split along. What goes between
replicas are the factors; to and from these pieces, gradients go within a replica. All else is averaged as it is.

Axes of arrays: M replicas, C pieces, A B sides of a matrix, R rank of a piece; leading ones are matrices of their own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PRNGKeyArray

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.training.muon import is_matrix
from dalle_jax.training.powersgd import TINY, PowerSGD, whole

REPLICAS = sharding.REPLICAS


class Kept(NamedTuple):
  """What goes from step to step, by the matrix's path.

  left: [M, ..., A, B], what each replica's gradients had that was not applied; q: [..., C, B, R], of each piece.
  """

  left: Any
  q: Any


class Matrix(NamedTuple):
  """How one is cut: into so many pieces, of this rank, along the axis -1 or -2, over these mesh axes."""

  shape: tuple[int, ...]
  lead: tuple[Any, ...]
  axis: int
  axes: tuple[str, ...]
  pieces: int
  rank: int

  @property
  def spec(self) -> PartitionSpec:
    """The layout in pieces."""
    over = self.axes or None
    return PartitionSpec(*self.lead, *((over, None) if self.axis == -2 else (None, over)))

  @property
  def q_shape(self) -> tuple[int, ...]:
    """Of Q."""
    *lead, _, b = self.shape
    return (*lead, self.pieces, b // self.pieces if self.axis == -1 else b, self.rank)

  @property
  def q_spec(self) -> PartitionSpec:
    """The layout of Q: each piece's lies where the piece does."""
    return PartitionSpec(*self.lead, self.axes or None, None, None)


def matrices(reduce: PowerSGD, params: Any, mesh: Mesh) -> dict[str, Matrix]:
  """How each of the blocks' matrices is cut, by its path. params: shapes with shardings.

  Raises UserError where there is none, the mesh or a weight's layout is another, or a rank or side does not divide.
  """
  if mesh.shape["model"] > 1:  # XLA (jax 0.10) ends the process on partitioning look-ups beside an axis that is manual
    raise UserError(f"PowerSGD runs on meshes of data and fsdp, and this has model={mesh.shape['model']}: set it to 1")
  found = {}
  for path, leaf in _leaves(params).items():
    spec = (*leaf.sharding.spec, *[None] * (leaf.ndim - len(leaf.sharding.spec)))
    over = [_axes(entry) for entry in spec]
    if any(REPLICAS in axes for axes in over):
      raise UserError(f"{path} is split over {REPLICAS}, along which PowerSGD's replicas lie: change its rule")
    if is_matrix(path):
      found[path] = _cut(path, leaf.shape, spec[:-2], over[-2:], mesh, reduce.rank)
  if not found:
    raise UserError(
      "PowerSGD compresses the matrices of attention and MLP, and this model has none: set reduce to None"
    )
  return found


def _cut(
  path: str, shape: tuple[int, ...], lead: tuple[Any, ...], over: list[tuple[str, ...]], mesh: Mesh, rank: int
) -> Matrix:
  a, b = shape[-2:]
  axes = tuple(axis for axis in (*over[0], *over[1]) if mesh.shape[axis] > 1)
  pieces = 1
  for axis in axes:
    pieces *= mesh.shape[axis]
  # Of a square, the side along which it is split already.
  axis = -2 if a > b or (a == b and any(mesh.shape[each] > 1 for each in over[0])) else -1
  if shape[axis] % pieces or rank % pieces:
    raise UserError(
      f"PowerSGD cuts {path} of {a} x {b} into {pieces} pieces ({' x '.join(axes)}) along its longer side, each with "
      f"its share of the rank {rank}: both must divide by {pieces}; change the mesh or the rank"
    )
  smallest = min(side // pieces if i == axis else side for i, side in ((-2, a), (-1, b)))
  return Matrix(shape, lead, axis, axes, pieces, min(rank // pieces, smallest))


def abstract(reduce: PowerSGD, params: Any, mesh: Mesh) -> Kept:
  """What `begin` gives, as shapes with shardings. Raises as `matrices`."""
  cut = matrices(reduce, params, mesh)
  array = lambda shape, spec: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))  # noqa: E731
  return Kept(
    left={path: array((mesh.shape[REPLICAS], *m.shape), _stacked(m.spec)) for path, m in cut.items()},
    q={path: array(m.q_shape, m.q_spec) for path, m in cut.items()},
  )


def begin(like: Kept, key: PRNGKeyArray) -> Kept:
  """Before the first step: nothing is left of anything, and Q is drawn."""
  keys = dict(zip(like.q, jax.random.split(key, len(like.q))))
  return Kept(
    left=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like.left),
    q={path: jax.random.normal(keys[path], x.shape, x.dtype) for path, x in like.q.items()},
  )


def apart(slope: Callable[..., Any], cut: Mapping[str, Matrix], layout: Any, mesh: Mesh, rules: Any) -> Callable:
  """Each replica's own gradient: (params, frozen, batch, key, step) -> (loss, metrics), gradients [M, ...] in pieces.

  Losses and metrics are means over replicas; each has a key of its own where there are several.
  """
  replicas = mesh.shape[REPLICAS]

  def own(params: Any, frozen: Any, batch: Any, number_1: Array, key: Any, step: Any) -> Any:
    key = jax.random.fold_in(key, number_1[0]) if replicas > 1 else key
    values, grads = slope(params, frozen, batch, key, step)
    grads = _by_path(lambda path, g, at: _in_pieces(g, cut.get(path), at), grads, layout)
    return jax.lax.pmean(values, REPLICAS), jax.tree.map(lambda g: g[None], grads)

  run = sharding.by_replica(own, mesh, rules, (False, False, True, True, False, False), (False, True))
  return lambda params, frozen, batch, key, step: run(params, frozen, batch, jnp.arange(replicas), key, step)


def _in_pieces(gradient: Array, matrix: Matrix | None, at: NamedSharding) -> Array:
  spec = at.spec if matrix is None else matrix.spec
  gradient = gradient.astype(jnp.float32)
  return gradient if at.mesh.size == 1 else jax.lax.with_sharding_constraint(gradient, NamedSharding(at.mesh, spec))


def average(
  reduce: PowerSGD,
  cut: Mapping[str, Matrix],
  layout: Any,
  mesh: Mesh,
  grads: Any,
  kept: Kept,
  key: PRNGKeyArray,
  step: Array,
) -> tuple[Any, Kept, dict[str, Array]]:
  """The gradient that is applied, what is kept, and figures of it, of each replica's own gradient.

  compression_error: the length of what is left beside that of what was held, over all matrices and replicas. With one
  replica, that is what the factors miss; each of several has also left what sets it apart from their mean, which none
  of them knows. Where any replica's gradient is not finite, all of what is applied is NaN, so that the step leaves both
  out: what is left must not take it up.
  """
  at = _by_path(lambda path, x, g: cut[path].spec if path in cut else x.spec, layout, grads)
  stacked = jax.tree.map(_stacked, at, is_leaf=_is_spec)
  of_kept = Kept({path: _stacked(m.spec) for path, m in cut.items()}, {path: m.q_spec for path, m in cut.items()})
  mean = lambda x: jax.lax.pmean(x, REPLICAS)  # noqa: E731

  def work(grads: Any, kept: Kept, key: Any, step: Array) -> tuple[Any, Kept, Array]:
    own = {path: g[0] for path, g in _leaves(grads).items()}
    finite = jnp.array(True)
    for g in own.values():
      finite &= jnp.all(jnp.isfinite(g))
    finite = jax.lax.pmin(finite.astype(jnp.int32), mesh.axis_names) > 0
    applied, left, qs, squares = {}, {}, {}, jnp.zeros(2)
    for i, (path, g) in enumerate(own.items()):
      if path not in cut:
        applied[path] = jnp.where(finite, mean(g), jnp.nan)
        continue
      m, q = cut[path], kept.q[path][..., 0, :, :]
      held = reduce.rounded(kept.left[path][0] + g)
      p, new = reduce.factors(held, q, mean)
      product = whole(p, new)
      rest = held - product
      squares += jnp.stack([jnp.sum(jnp.square(rest)), jnp.sum(jnp.square(held))]) / _copies(m, mesh)
      left[path] = jnp.where(reduce.forgets(step), 0.0, reduce.rounded(rest))[None]
      qs[path] = reduce.q.after(q, new, _of_piece(jax.random.fold_in(key, i), m))[..., None, :, :]
      applied[path] = jnp.where(finite, product, jnp.nan)
    return _rebuilt(grads, applied), Kept(left, qs), jax.lax.psum(squares, mesh.axis_names)

  none = PartitionSpec()
  run = jax.shard_map(
    work, mesh=mesh, in_specs=(stacked, of_kept, none, none), out_specs=(at, of_kept, none), check_vma=False
  )
  applied, kept, (left_of, held_of) = run(grads, kept, key, step)
  share = jnp.sqrt(left_of / jnp.maximum(held_of, TINY))
  return applied, kept, {"compression_error": share}


def _copies(matrix: Matrix, mesh: Mesh) -> float:
  """How many devices of a replica hold the same piece."""
  split = [*matrix.axes, *(axis for entry in matrix.lead for axis in _axes(entry))]
  found = mesh.size / mesh.shape[REPLICAS]
  for axis in split:
    found /= mesh.shape[axis]
  return found


def _of_piece(key: PRNGKeyArray, matrix: Matrix) -> PRNGKeyArray:
  """A key for this device's piece, the same on all replicas."""
  for axis in (*matrix.axes, *(axis for entry in matrix.lead for axis in _axes(entry))):
    key = jax.random.fold_in(key, jax.lax.axis_index(axis))
  return key


def _axes(entry: Any) -> tuple[str, ...]:
  return entry if isinstance(entry, tuple) else (entry,) if entry else ()


def _stacked(spec: PartitionSpec) -> PartitionSpec:
  return PartitionSpec(REPLICAS, *spec)


def _is_spec(x: Any) -> bool:
  return isinstance(x, PartitionSpec)


def _leaves(tree: Any) -> dict[str, Any]:
  return {sharding.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _by_path(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
  return jax.tree_util.tree_map_with_path(lambda path, *xs: function(sharding.path_name(path), *xs), tree, *others)


def _rebuilt(like: Any, leaves: Mapping[str, Any]) -> Any:
  return _by_path(lambda path, _: leaves[path], like)
