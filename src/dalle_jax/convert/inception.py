"""Inception v3's weights from the state dict that pytorch-fid and torch-fidelity load (the same names and arrays).

C D channels, K classes.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.published import INCEPTION
from dalle_jax.errors import UserError
from dalle_jax.models import inception

# What a norm calls its arrays here and there.
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
COUNTER = ".num_batches_tracked"  # of the norms' training; nothing is computed with it


def recognises(names: Collection[str]) -> bool:
  """Whether arrays of these names are an Inception v3, FID's or another one of the same names."""
  return {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.bn.running_var", "fc.weight"} <= set(names)


def read(arrays: Mapping[str, np.ndarray]) -> tuple[inception.Config, PyTree]:
  """The network's config and its float32 parameters, of the arrays by their official names.

  Raises UserError naming the first array that is missing, unknown, of another shape, or not finite. torchvision's own
  Inception v3, of the same names, is refused: it has 1000 classes and an auxiliary head, and FID is not made with it.
  """
  if "AuxLogits.fc.weight" in arrays or arrays.get("fc.bias", np.zeros(1)).shape == (1000,):
    raise UserError(f"these are torchvision's Inception weights, and FID has its own: {INCEPTION.url}")
  cfg = _config(arrays)
  wanted = dict(_leaves(inception.shapes(cfg)))
  names = {_official(path) for path in wanted}
  for name in arrays:
    if name not in names and not name.endswith(COUNTER):
      raise UserError(f"the Inception weights hold {name}, which is no array of FID's Inception v3 ({INCEPTION.file})")
  tree: dict[str, Any] = {}
  for path, shape in wanted.items():
    _put(tree, path, _array(arrays, path, shape))
  return cfg, tree


def _config(arrays: Mapping[str, np.ndarray]) -> inception.Config:
  first, last = _shape(arrays, "Conv2d_1a_3x3.conv.weight"), _shape(arrays, "fc.bias")
  whole = inception.shapes(inception.Config())["Conv2d_1a_3x3"]["kernel"][-1]
  if len(first) != 4 or not first[0] or whole % first[0] or whole // first[0] > 16:
    raise UserError(f"Conv2d_1a_3x3.conv.weight is of shape {list(first)}, wanted [32, 3, 3, 3]")
  if len(last) != 1:
    raise UserError(f"fc.bias is of shape {list(last)}, wanted [1008]")
  return inception.Config(classes=last[0], thin=whole // first[0])


def _array(arrays: Mapping[str, np.ndarray], path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
  name, array = _official(path), arrays.get(_official(path))
  if array is None:
    raise UserError(f"the Inception weights lack {name} ({INCEPTION.file} has it)")
  array = np.asarray(array)
  ours = _ours(array)
  if ours.shape != shape or not np.issubdtype(array.dtype, np.floating):
    wanted = [shape[i] for i in _order(len(shape), back=True)]
    raise UserError(f"{name} is {array.dtype}{list(array.shape)}, wanted floating point{wanted}")
  if not np.isfinite(ours).all():
    raise UserError(f"{name} holds numbers that are not finite: the file is damaged, or its network was")
  return np.ascontiguousarray(ours, dtype=np.float32)


def _ours(array: np.ndarray) -> np.ndarray:
  """Kernels [D, C, h, w] as [h, w, C, D], matrices [K, D] as [D, K], vectors as they are."""
  return array.transpose(_order(array.ndim)) if array.ndim in (2, 4) else array


def _order(axes: int, *, back: bool = False) -> tuple[int, ...]:
  return {4: (3, 2, 0, 1) if back else (2, 3, 1, 0), 2: (1, 0)}.get(axes, tuple(range(axes)))


def _official(path: tuple[str, ...]) -> str:
  *module, leaf = path
  if module == ["fc"]:
    return "fc.weight" if leaf == "kernel" else "fc.bias"
  return ".".join([*module, *(("conv", "weight") if leaf == "kernel" else ("bn", NORM[leaf]))])


def _shape(arrays: Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
  if name not in arrays:
    raise UserError(f"the Inception weights lack {name} ({INCEPTION.file} has it)")
  return np.shape(arrays[name])


def _leaves(tree: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
  for name, each in tree.items():
    if isinstance(each, Mapping):
      yield from _leaves(each, (*above, name))
    else:
      yield (*above, name), each


def _put(tree: dict[str, Any], path: tuple[str, ...], array: np.ndarray) -> None:
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = array
