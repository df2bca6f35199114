"""The table of parameters that a run begins with: each one's shape, how it is laid out, its bytes on a device."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from dalle_jax import sharding


class Row(NamedTuple):
  """An array of a tree, or several alike: path, shape, layout, their bytes on each device, and how many they are."""

  path: str
  shape: tuple[int, ...]
  spec: str
  bytes_per_device: int
  count: int = 1


def describe(tree: Any) -> list[Row]:
  """A row for each array (or ShapeDtypeStruct with a sharding) of the tree, in the tree's order."""
  rows = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    spec = _split(leaf.sharding)
    shard = math.prod(leaf.sharding.shard_shape(leaf.shape)) if leaf.sharding else math.prod(leaf.shape)
    entries = ["+".join(e) if isinstance(e, tuple) else e or "-" for e in (*spec, *[None] * (leaf.ndim - len(spec)))]
    rows.append(Row(sharding.path_name(path), leaf.shape, " ".join(entries), shard * leaf.dtype.itemsize))
  return rows


def _split(layout: Any) -> list[Any]:
  """The mesh axes that each dimension is really split over: those of more than one device."""
  found = []
  for entry in getattr(layout, "spec", ()):
    names = entry if isinstance(entry, tuple) else (entry,)
    found.append(tuple(name for name in names if name and layout.mesh.shape[name] > 1) or None)
  return found


def grouped(rows: Sequence[Row]) -> list[Row]:
  """The rows, those together that differ in the numbers of their paths alone: periods/block_*/mlp/up/kernel."""
  groups: dict[tuple[Any, ...], list[Row]] = {}
  for row in rows:
    groups.setdefault((re.sub(r"\d+", "*", row.path), row.shape, row.spec), []).append(row)
  return [
    own[0] if len(own) == 1 else Row(path, shape, spec, sum(row.bytes_per_device for row in own), len(own))
    for (path, shape, spec), own in groups.items()
  ]


def table(rows: Sequence[Row]) -> str:
  """The rows as text in columns, with a line of totals."""
  lines = [("parameter", "shape of each", "layout", "bytes per device, of all")]
  for row in rows:
    path = row.path if row.count == 1 else f"{row.count} of {row.path}"
    lines.append((path, "x".join(map(str, row.shape)) or "scalar", row.spec, f"{row.bytes_per_device:,}"))
  numbers, size = sum(row.count * math.prod(row.shape) for row in rows), sum(row.bytes_per_device for row in rows)
  lines.append((f"{sum(row.count for row in rows)} arrays", f"{numbers:,} numbers", "", f"{size:,}"))
  widths = [max(len(line[i]) for line in lines) for i in range(4)]
  return "".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() + "\n" for line in lines)
