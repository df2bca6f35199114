"""What the pickles of torch.save and torch.jit.save hold: storages, tensors that look into them, and modules.

Of a module only its state is known. Its arrays are named as its state dict names them: blocks.input.w.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from dalle_jax.convert.pickles import Allowed, Name, Refused, Thing
from dalle_jax.errors import UserError

DTYPES = {
  "Double": np.dtype("<f8"),
  "Float": np.dtype("<f4"),
  "Half": np.dtype("<f2"),
  "BFloat16": np.dtype(ml_dtypes.bfloat16),
  "ComplexDouble": np.dtype("<c16"),
  "ComplexFloat": np.dtype("<c8"),
  "Long": np.dtype("<i8"),
  "Int": np.dtype("<i4"),
  "Short": np.dtype("<i2"),
  "Char": np.dtype("i1"),
  "Byte": np.dtype("u1"),
  "Bool": np.dtype("?"),
}
# Where checkpoints keep the weights beside other things, the first that there is.
NESTS = ("state_dict", "model_state_dict", "model", "module")
MOST_NAMES = 200_000
MOST_DEPTH = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storage:
  """Numbers in the file: their key there, dtype and how many."""

  key: str
  dtype: np.dtype
  numel: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
  """A window on a storage, in numbers, not bytes; it lies inside."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def of(self, numbers: np.ndarray) -> np.ndarray:
    """The array, of the storage's numbers; a view of them."""
    steps = tuple(stride * numbers.itemsize for stride in self.strides)
    return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps, writeable=False)


def storage(pid: Any) -> Storage | Name:
  """What a persistent id stands for. Raises Refused where it is none of torch's."""
  if not isinstance(pid, tuple) or not pid:
    raise Refused("has a persistent id that is not torch's")
  if pid[0] == "module" and len(pid) >= 2 and isinstance(pid[1], Name):  # a class, with its source code: not looked at
    return pid[1]
  if pid[0] != "storage" or len(pid) not in (5, 6):
    raise Refused("has a persistent id that is not torch's")
  if len(pid) == 6 and pid[5] is not None:
    raise Refused("has a storage inside a storage, as torch before 0.4 wrote")
  kind, key, numel = pid[1], pid[2], pid[4]
  dtype = DTYPES.get(kind.name.removesuffix("Storage")) if isinstance(kind, Name) else None
  if dtype is None:
    raise Refused(f"has numbers of the kind {kind if isinstance(kind, Name) else '?'}, which is not read")
  if not isinstance(key, str) or not key.isascii() or not key.isalnum():
    raise Refused("has a storage whose key is not a number or a word")
  if not _is_size(numel):
    raise Refused("has a storage of no size")
  return Storage(key=key, dtype=dtype, numel=numel)


def _tensor(own: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
  """As torch._utils._rebuild_tensor_v2: what follows (requires_grad, hooks) tells nothing of the numbers."""
  if not isinstance(own, Storage):
    raise Refused("has a tensor without a storage")
  shape, strides = (tuple(x) if isinstance(x, tuple | list) else None for x in (shape, strides))
  if shape is None or strides is None or len(shape) != len(strides) or len(shape) > 32:
    raise Refused("has a tensor of no shape")
  if not all(map(_is_size, (offset, *shape, *strides))):
    raise Refused("has a tensor whose offset, shape or strides are no sizes")
  last = offset + sum((n - 1) * step for n, step in zip(shape, strides)) if all(shape) else offset - 1
  if last >= own.numel or math.prod(shape) > max(own.numel, 1) or (offset > own.numel):
    raise Refused(f"has a tensor of {_size(shape)} that reaches outside its storage of {own.numel:,} numbers")
  return Tensor(storage=own, offset=offset, shape=shape, strides=strides)


def _parameter(data: Any, *_: Any) -> Any:
  return data


def _ordered(*args: Any) -> dict:
  """As collections.OrderedDict, and defaultdict, of nothing or of pairs."""
  pairs = args[-1] if args and isinstance(args[-1], list | tuple) else ()
  if not all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
    raise Refused("makes a dict of what are no pairs")
  return dict(pairs)


def _as_list(*args: Any) -> Any:
  return list(args[0]) if args and isinstance(args[0], list | tuple) else []


def _size_of(*args: Any) -> tuple:
  return tuple(_as_list(*args))


def _nothing(*_: Any) -> None:
  return None


def _of_a_type(make: Any, kind: Any, args: Any, *_: Any) -> Any:
  """As torch._tensor._rebuild_from_type_v2: a tensor of a class of its own, which is not looked at."""
  if not isinstance(make, Name) or make.module != "torch._utils" or str(make) not in VALUES:
    raise Refused("has a tensor of a class that is not read")
  return VALUES[str(make)](*args) if isinstance(args, tuple) else None


def _first(value: Any, *_: Any) -> Any:
  return value


VALUES: Mapping[str, Callable[..., Any]] = {
  "collections.OrderedDict": _ordered,
  "collections.defaultdict": _ordered,
  "torch._utils._rebuild_tensor": _tensor,
  "torch._utils._rebuild_tensor_v2": _tensor,
  "torch._utils._rebuild_parameter": _parameter,
  "torch._utils._rebuild_parameter_with_state": _parameter,
  "torch._tensor._rebuild_from_type_v2": _of_a_type,
  "torch.Size": _size_of,
  "torch.device": _nothing,
  "__builtin__.set": _as_list,
  "builtins.set": _as_list,
  **{f"torch.jit._pickle.build_{kind}list": _as_list for kind in ("int", "double", "bool", "tensor")},
  "torch.jit._pickle.restore_type_tag": _first,
  **{f"torch.{kind}Storage": _nothing for kind in DTYPES},
}
DTYPE_NAMES = ("float16", "float32", "float64", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool")
# Python 3's pickles for Python 2, which torch.save writes, call int long, str unicode and range xrange.
PLAIN = (
  *("dict", "list", "tuple", "frozenset", "int", "long", "float", "complex", "bool", "str", "unicode", "bytes"),
  *("bytearray", "range", "xrange", "object"),
)
# What modules are made of, and what trainers keep beside weights: all of these are names here, and no more.
INERT = (
  "__torch__",
  "dall_e",
  "torch.nn",
  "torch._C._nn",
  *(f"torch.{name}" for name in DTYPE_NAMES),
  *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities"),
  *("taming", "dalle", "omegaconf", "argparse.Namespace", "typing.Any", "torch.Tensor"),
  *("pathlib.Path", "pathlib.PosixPath", "collections.Counter", "collections.deque", "datetime"),
  *("numpy.dtype", "numpy.ndarray", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs.encode"),
  *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in PLAIN),
)
ALLOWED = Allowed(inert=INERT, values=VALUES)


def named(path: str, value: Any) -> dict[str, Tensor]:
  """The tensors of what a file holds, by their names in the state dict.

  Of a checkpoint that keeps its weights beside other things (state_dict, model, module) these alone; a prefix
  `module.` that all names have is left out. Raises UserError where there are none.
  """
  found = dict(_walk(path, _nested(value)))
  if not found:
    raise UserError(f"{path} holds no weights: wanted a state dict, a module, or a checkpoint with a state_dict")
  if all(name.startswith("module.") for name in found):
    found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
  return found


def _nested(value: Any) -> Any:
  for _ in NESTS:
    inner = value if isinstance(value, dict) else {}
    value = next((inner[key] for key in NESTS if isinstance(inner.get(key), dict | Thing)), value)
  return value


def _walk(file: str, value: Any) -> Iterator[tuple[str, Tensor]]:
  """Tensors below a dict or a module, with their names."""
  todo = [("", value, 0)]
  for _ in range(MOST_NAMES):
    if not todo:
      return
    path, value, depth = todo.pop()
    if isinstance(value, Tensor):
      yield path, value
    elif depth < MOST_DEPTH:
      inside = [(f"{path}.{key}" if path else key, inner, depth + 1) for key, inner in _inside(value)]
      todo += reversed(inside)
  raise UserError(f"{file} holds more than {MOST_NAMES:,} things inside one another: this is no file of weights")


def _inside(value: Any) -> list[tuple[str, Any]]:
  if isinstance(value, dict):
    return [(key, inner) for key, inner in value.items() if isinstance(key, str)]
  if not isinstance(value, Thing) or not isinstance(value.state, dict):
    return []
  state = value.state
  if "_modules" not in state:  # of TorchScript: parameters, buffers and modules are attributes
    return [(key, inner) for key, inner in state.items() if isinstance(key, str)]
  passing = state.get("_non_persistent_buffers_set") or ()
  buffers = {key: inner for key, inner in _dict(state, "_buffers").items() if key not in passing}
  own = _dict(state, "_parameters") | buffers | _dict(state, "_modules")
  return [(key, inner) for key, inner in own.items() if isinstance(key, str)]


def _dict(state: Mapping[str, Any], key: str) -> dict:
  return state[key] if isinstance(state.get(key), dict) else {}


def _is_size(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _size(shape: tuple[int, ...]) -> str:
  return "x".join(map(str, shape[:6])) or "one number"
