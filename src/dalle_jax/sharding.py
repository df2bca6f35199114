"""Which part of which array lies on which device: the only file that knows the mesh's axes.

Models name the axes of their arrays by what they mean ("embed", "heads"); `Rules` maps those names to mesh axes; here
the names are resolved, strictly. A misspelt name is an error on a laptop too, never a silent replica on a pod.

    data   the batch is split, parameters are copied; the one axis that goes from slice to slice of a TPU pod
    fsdp   the batch is split, and so is every parameter, gathered where it is used
    model  heads, hidden units and vocabularies are split
"""

import contextlib
import contextvars
import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dalle_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "model")
REPLICAS = "data"  # the axis along which parameters are copies


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
  """How many devices along each mesh axis; -1 (for one of them) takes the devices that are left."""

  data: int = -1
  fsdp: int = 1
  model: int = 1

  def __post_init__(self) -> None:
    sizes = [self.data, self.fsdp, self.model]
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
      raise UserError(
        f"got a mesh of {_sizes(self)}, wanted positive numbers, one of them -1 at most (data, if not given)"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """For each logical axis, the mesh axes it is split over, outermost first; () keeps it whole on every device."""

  batch: tuple[str, ...] = ("data", "fsdp")
  seq: tuple[str, ...] = ()
  embed: tuple[str, ...] = ("fsdp",)
  mlp: tuple[str, ...] = ("model",)
  heads: tuple[str, ...] = ("model",)
  head_dim: tuple[str, ...] = ()
  vocab: tuple[str, ...] = ("model",)
  position: tuple[str, ...] = ()
  layers: tuple[str, ...] = ()
  height: tuple[str, ...] = ()
  width: tuple[str, ...] = ()
  conv_in: tuple[str, ...] = ()
  conv_out: tuple[str, ...] = ("fsdp",)

  @property
  def rows(self) -> tuple[str, ...]:
    """The batch beside weights that stay where they are, as in drawing: its axes without those that split `embed`."""
    return tuple(axis for axis in self.batch if axis not in self.embed)

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      axes = getattr(self, field.name)
      if not isinstance(axes, tuple):
        raise UserError(f"rules.{field.name} is {axes!r}, wanted a tuple of mesh axes such as {(axes,)!r}")
      for axis in axes:
        if axis not in MESH_AXES:
          raise UserError(f"rules.{field.name} names the mesh axis {axis!r}, wanted one of {', '.join(MESH_AXES)}")


LOGICAL_AXES = (*(field.name for field in dataclasses.fields(Rules)), "rows")


def make_mesh(shape: MeshShape, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh over all devices (or those given), the slices of a TPU's pod along `data`, outermost.

  Raises UserError when the shape does not use exactly these, or when slices share what is sent most.
  """
  devices = _devices() if devices is None else devices
  sizes = [shape.data, shape.fsdp, shape.model]
  known = math.prod(size for size in sizes if size != -1)
  rest = len(devices) // known
  sizes = [rest if size == -1 else size for size in sizes]
  if math.prod(sizes) != len(devices):
    raise UserError(
      f"got a mesh of {_sizes(shape)} for {len(devices)} devices, wanted a product of {len(devices)}: "
      "change the mesh, or set one axis to -1"
    )
  on_tpu = devices[0].platform == "tpu"
  slices = len({getattr(device, "slice_index", 0) for device in devices}) if on_tpu else 1
  if sizes[0] % slices:
    raise UserError(
      f"got a mesh of {_sizes(shape)} for {slices} slices of {len(devices) // slices} devices: between slices goes the "
      f"data axis alone, so data is to be a multiple of {slices}"
    )
  # Mesh axes may share an axis of a TPU's torus: 16x16 chips can be 2 x 16 x 8.
  if slices == 1:
    grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
  else:
    within, between = [sizes[0] // slices, *sizes[1:]], [slices, 1, 1]
    grid = mesh_utils.create_hybrid_device_mesh(within, between, devices, allow_split_physical_axes=True)
  return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes))


def _devices() -> Sequence[jax.Device]:
  try:
    return jax.devices()
  except RuntimeError as error:
    said = " ".join(str(error).split()).split(" (you may")[0][:100]
    raise UserError(f"JAX finds no devices: {said}: install what drives them, or set JAX_PLATFORMS=cpu") from error


def axes(init: Callable[..., Any], *names: str | None) -> Callable[..., Any]:
  """An initializer whose result carries logical axis names, one a dimension (None: whole on every device).

  Raises ValueError at once for a name that no rule has, and when called for a shape of another rank.
  """
  _check_names(names)
  return functools.partial(_boxed, init, names)


def _boxed(init: Callable[..., Any], names: tuple[str | None, ...], *args: Any, **kwargs: Any) -> Any:
  value = init(*args, **kwargs)
  _check_rank(value, names)
  return nn.LogicallyPartitioned(value, names)


def constrain(x: Any, *names: str | None) -> Any:
  """x, laid out by its logical axes where `in_scope` says on which mesh; x as it is elsewhere.

  Names and rank are checked everywhere (ValueError).
  """
  _check_names(names)
  _check_rank(x, names)
  scope = _scope.get()
  if scope is None or scope[0].size == 1:
    return x
  spec = _spec(names, x.shape, *scope, what=f"an activation with axes {names}")
  return jax.lax.with_sharding_constraint(x, NamedSharding(scope[0], spec))


def in_stages(weight: Any, *names: str | None) -> Any:
  """A weight with these logical axes, of which those that are split over several mesh axes keep their first alone.

  Its gathering, and the scattering of its gradient, then go along one mesh axis after the other. In one go, compilers
  for TPU take all-reduces along three axes of the torus, and copy shards that don't fill whole tiles (8 rows).
  """
  _check_names(names)
  _check_rank(weight, names)
  scope = _scope.get()
  split = lambda name: [a for a in getattr(scope[1], name) if scope[0].shape[a] > 1] if name else []  # noqa: E731
  if scope is None or all(len(split(name)) < 2 for name in names):
    return weight
  spec = PartitionSpec(*(split(name)[0] if split(name) else None for name in names))
  return jax.lax.with_sharding_constraint(weight, NamedSharding(scope[0], spec))


def parts(name: str) -> int:
  """Into how many parts `in_scope` splits arrays along this logical axis; 1 elsewhere."""
  _check_names([name])
  scope = _scope.get()
  return 1 if scope is None else math.prod(scope[0].shape[axis] for axis in getattr(scope[1], name))


def is_split(name: str) -> bool:
  """Whether `in_scope` splits arrays along this logical axis; False elsewhere."""
  return parts(name) > 1


def by_shard(
  function: Callable[..., Any], inputs: Sequence[tuple[str | None, ...]], output: tuple[str | None, ...]
) -> Callable[..., Any]:
  """The function on each device's part of arrays with these logical axes, where `in_scope` says on which mesh.

  For work that never crosses these axes, such as kernels, which the compiler can't split itself. The result raises
  UserError when a dimension does not divide over its mesh axes.
  """
  for names in (*inputs, output):
    _check_names(names)
  scope = _scope.get()
  if scope is None or scope[0].size == 1:
    return function

  def sharded(*arrays: Any) -> Any:
    specs = [_spec(n, x.shape, *scope, what=f"an array with axes {n}") for n, x in zip(inputs, arrays, strict=True)]
    out = PartitionSpec(*(_entry(getattr(scope[1], name)) if name else None for name in output))
    where: dict[str, Any] = {"mesh": scope[0]}
    if taken := jax.sharding.get_abstract_mesh().manual_axes:  # inside `by_replica`
      where = {"axis_names": set(MESH_AXES) - set(taken)}
    return jax.shard_map(function, in_specs=tuple(specs), out_specs=out, check_vma=False, **where)(*arrays)

  return sharded


def by_replica(
  function: Callable[..., Any], mesh: Mesh, rules: Rules, inputs: tuple[bool, ...], outputs: tuple[bool, ...]
) -> Callable[..., Any]:
  """The function on each replica's part of those arguments that are split, along the first axis, and all of the others.

  inputs, outputs: whether each argument, and each result, is split; a result that is not must be equal on all replicas.
  Inside, the compiler goes on splitting arrays over the other mesh axes, and `constrain` over those alone. Nothing is
  added up over replicas but what the function itself adds up.
  """
  within = dataclasses.replace(rules, **{f.name: _within(getattr(rules, f.name)) for f in dataclasses.fields(rules)})

  def own(*arrays: Any) -> Any:
    with in_scope(mesh, within):
      return function(*arrays)

  specs = [tuple(PartitionSpec(REPLICAS) if split else PartitionSpec() for split in each) for each in (inputs, outputs)]
  return jax.shard_map(own, mesh=mesh, in_specs=specs[0], out_specs=specs[1], axis_names={REPLICAS}, check_vma=False)


def _within(axes: tuple[str, ...]) -> tuple[str, ...]:
  return tuple(axis for axis in axes if axis != REPLICAS)


def device() -> jax.Device:
  """One of those that the program being traced is for: of `in_scope`'s devices, elsewhere of this process's own."""
  scope = _scope.get()
  return jax.local_devices()[0] if scope is None else scope[0].devices.flat[0]


def platform() -> str:
  """What the program being traced is for: "cpu", "gpu" or "tpu"."""
  return device().platform


_scope: contextvars.ContextVar[tuple[Mesh, Rules] | None] = contextvars.ContextVar("scope", default=None)


@contextlib.contextmanager
def in_scope(mesh: Mesh, rules: Rules) -> Iterator[None]:
  """Within it, `constrain` lays arrays out on this mesh. Enter it inside the function that is jitted."""
  token = _scope.set((mesh, rules))
  try:
    yield
  finally:
    _scope.reset(token)


def shardings(tree: Any, mesh: Mesh, rules: Rules) -> Any:
  """A NamedSharding for every leaf, in the shape of the unboxed tree; leaves without names are whole everywhere.

  tree: boxed arrays or ShapeDtypeStructs: parameters, or the state of an optimizer that was given boxed ones.
  Raises UserError naming the parameter when a dimension does not divide over its mesh axes.
  """

  def resolve(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
    if not _is_box(leaf):
      return NamedSharding(mesh, PartitionSpec())
    name = path_name(path)
    _check_rank(leaf.value, leaf.names, name)
    return NamedSharding(mesh, _spec(leaf.names, leaf.value.shape, mesh, rules, what=name))

  return jax.tree_util.tree_map_with_path(resolve, tree, is_leaf=_is_box)


def unbox(tree: Any) -> Any:
  """The tree without names: plain arrays from here on."""
  return jax.tree.map(lambda leaf: leaf.value if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def replicated(mesh: Mesh) -> NamedSharding:
  """Whole on every device of the mesh."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, rules: Rules, ndim: int) -> NamedSharding:
  """Split along the first of `ndim` dimensions, the batch."""
  return NamedSharding(mesh, PartitionSpec(_entry(rules.batch), *[None] * (ndim - 1)))


def check_batch(batch: int, accumulate: int, mesh: Mesh, rules: Rules) -> None:
  """Raises UserError where a batch of so many examples, taken in so many parts, does not divide over the mesh."""
  parts = math.prod(mesh.shape[axis] for axis in rules.batch)
  if batch % (parts * accumulate):
    taken = f" taken in {accumulate} parts" if accumulate > 1 else ""
    raise UserError(
      f"a batch of {batch}{taken} does not divide over {parts} devices ({' x '.join(rules.batch)}): change the batch"
      f"{', accumulate' if accumulate > 1 else ''} or the mesh"
    )


def batch_parts(mesh: Mesh, rules: Rules) -> int:
  """Into how many parts a batch is split."""
  return math.prod(mesh.shape[axis] for axis in rules.batch)


class Share(NamedTuple):
  """Of the `of` equal parts that a batch is split into, those that this process's devices hold, ascending.

  Hosts of a TPU slice are blocks of its torus, so that their parts need not be neighbours; processes over which weights
  alone are split hold the same ones.
  """

  parts: tuple[int, ...]
  of: int


def share(mesh: Mesh, rules: Rules) -> Share:
  """This process's share of every batch: all of it where there is one process."""
  of = math.prod(mesh.shape[axis] for axis in rules.batch)
  spans = batch_sharding(mesh, rules, 1).addressable_devices_indices_map((of,)).values()
  return Share(tuple(sorted({part for (span,) in spans for part in range(*span.indices(of))})), of)


def place(own: Any, share: Share, mesh: Mesh, rules: Rules) -> jax.Array:
  """The batch of which this process has the rows of its share, one part after the other."""
  shape = (own.shape[0] // len(share.parts) * share.of, *own.shape[1:])
  layout = batch_sharding(mesh, rules, own.ndim)
  return jax.make_array_from_callback(shape, layout, lambda index: _rows(own, share, index))


def _rows(own: Any, share: Share, index: tuple[slice, ...]) -> Any:
  """Rows of the whole batch out of those that a share holds: one of its parts, or neighbours."""
  of_a_part = own.shape[0] // len(share.parts)
  first, stop, _ = index[0].indices(of_a_part * share.of)
  begin = share.parts.index(first // of_a_part) * of_a_part
  return own[begin : begin + stop - first]


def path_name(path: tuple[Any, ...]) -> str:
  """A tree path as it is spoken of in messages: blocks/0/attention/kernel."""
  return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def _spec(names: Sequence[str | None], shape: Sequence[int], mesh: Mesh, rules: Rules, what: str) -> PartitionSpec:
  entries: list[Any] = []
  used: dict[str, str] = {}
  for name, size in zip(names, shape):
    mesh_axes = getattr(rules, name) if name else ()
    for axis in mesh_axes:
      if axis in used:
        raise UserError(f"{what}: {used[axis]} and {name} are both split over {axis}; change the rule of one of them")
      used[axis] = name
    parts = math.prod(mesh.shape[axis] for axis in mesh_axes)
    if size % parts:
      raise UserError(
        f"{what}: its axis {name} of {size} does not divide over {parts} devices ({' x '.join(mesh_axes)}): "
        f"change the mesh, the size, or --rules.{name} (with no value: not split)"
      )
    entries.append(_entry(mesh_axes))
  return PartitionSpec(*entries)


def _entry(mesh_axes: tuple[str, ...]) -> str | tuple[str, ...] | None:
  if not mesh_axes:
    return None
  return mesh_axes[0] if len(mesh_axes) == 1 else mesh_axes


def _check_names(names: Sequence[str | None]) -> None:
  for name in names:
    if name is not None and name not in LOGICAL_AXES:
      close = difflib.get_close_matches(str(name), LOGICAL_AXES, n=1)
      hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(LOGICAL_AXES)}"
      raise ValueError(f"no logical axis {name!r}: {hint}")


def _check_rank(x: Any, names: Sequence[str | None], what: str = "an array") -> None:
  if len(names) != len(x.shape):
    raise ValueError(f"{what} of shape {tuple(x.shape)} has {len(x.shape)} axes, but {len(names)} names: {names}")


def _is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


def _sizes(shape: MeshShape) -> str:
  return ", ".join(f"{name}={getattr(shape, name)}" for name in MESH_AXES)
