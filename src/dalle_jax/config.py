"""Frozen dataclasses as JSON, as golden text and as a digest.

A configuration is a tree of frozen dataclasses, tuples, dicts, numbers, strings, booleans and None. Each dataclass is
written with its class name under "kind", so that a field typed as a union comes back as the class it was.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from dalle_jax.errors import UserError

Json = Any


def to_dict(value: Any) -> Json:
  """The configuration as JSON values. Raises UserError for a float that is not finite, naming the field."""
  for path, leaf in leaves(value):
    if isinstance(leaf, float) and not math.isfinite(leaf):
      raise UserError(f"{path} is {leaf}: a finite number is wanted")
  return _encode(value)


def from_dict(annotation: Any, data: Json, path: str = "experiment") -> Any:
  """Rebuilds what `to_dict` wrote, for a field of type `annotation`. Raises UserError naming the path that is wrong."""
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is typing.Annotated:
    return from_dict(args[0], data, path)
  if origin in (typing.Union, types.UnionType):
    return _from_union(args, data, path)
  if origin is typing.Literal:
    return data
  if origin is tuple:
    items = [args[0]] * len(data) if len(args) == 2 and args[1] is Ellipsis else args
    return tuple(from_dict(item, x, f"{path}[{i}]") for i, (item, x) in enumerate(zip(items, data)))
  if isinstance(origin, type) and issubclass(origin, Mapping):
    return {k: from_dict(args[1], v, f"{path}.{k}") for k, v in data.items()}
  if dataclasses.is_dataclass(annotation):
    return _from_fields(annotation, data, path)
  if annotation is float and isinstance(data, int):
    return float(data)
  return data


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
  """Every leaf field with its dotted path, in the order of declaration; a dataclass's class is a leaf named `kind`."""
  if dataclasses.is_dataclass(value):
    yield f"{path}.kind".lstrip("."), type(value).__name__
    items = [(f.name.rstrip("_"), getattr(value, f.name)) for f in dataclasses.fields(value)]
  elif isinstance(value, Mapping):
    items = list(value.items())
  else:
    yield path, value
    return
  for name, item in items:
    yield from leaves(item, f"{path}.{name}".lstrip("."))


def to_text(value: Any) -> str:
  """One `path = value` line a leaf: what is committed under experiments/golden and diffed in review."""
  return "".join(f"{path} = {leaf!r}\n" for path, leaf in leaves(value))


def digest(value: Any) -> str:
  """SHA-256 of the configuration's JSON, in hexadecimal."""
  return hashlib.sha256(json.dumps(to_dict(value), sort_keys=True).encode()).hexdigest()


def _encode(value: Any) -> Json:
  if dataclasses.is_dataclass(value):
    fields = {f.name.rstrip("_"): _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {"kind": type(value).__name__} | fields
  if isinstance(value, Mapping):
    return {str(k): _encode(v) for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [_encode(v) for v in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  raise TypeError(f"a configuration holds no {type(value).__name__}")


def _from_union(members: tuple[Any, ...], data: Json, path: str) -> Any:
  if data is None and type(None) in members:
    return None
  classes = {m.__name__: m for m in members if dataclasses.is_dataclass(m)}
  if isinstance(data, dict) and classes:
    kind = data.get("kind")
    if kind not in classes:
      raise UserError(f"{path} is a {kind!r}; this version knows {', '.join(classes)}")
    return from_dict(classes[kind], data, path)
  plain = [m for m in members if m is not type(None) and not dataclasses.is_dataclass(m)]
  return from_dict(plain[0], data, path) if len(plain) == 1 else data


def _from_fields(cls: type, data: Json, path: str) -> Any:
  hints = typing.get_type_hints(cls, include_extras=True)
  fields = {f.name.rstrip("_"): f.name for f in dataclasses.fields(cls) if f.init}
  unknown = sorted(set(data) - set(fields) - {"kind"})
  if unknown:
    raise UserError(f"{path} has the field {unknown[0]!r}, which {cls.__name__} of this version does not know")
  values = {name: from_dict(hints[name], data[key], f"{path}.{key}") for key, name in fields.items() if key in data}
  return cls(**values)
