"""Weights that lie in a directory of their own, for a stage to begin with or to be taken in its place.

Either what `dalle convert` wrote (weights.safetensors, config.json), or what `dalle checkpoint export` wrote
(STAGE.safetensors, experiment.json). Both say the sizes of their model and the digest of their arrays.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open

from dalle_jax import config, places
from dalle_jax.convert import weights
from dalle_jax.errors import UserError
from dalle_jax.places import Place
from dalle_jax.sharding import path_name
from dalle_jax.training import checkpoint

# Fields of a model's sizes that change how it runs, or on which pictures, and not what its weights mean.
FREE = ("image", "dtype", "remat", "scan", "attention")
TOKENIZER = "tokenizer.model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
  """Arrays by path (encoder/input/kernel), their digest, and the JSON of the sizes of the model they are of."""

  place: Path
  arrays: Mapping[str, np.ndarray]
  digest: str
  model: Mapping[str, Any]

  def tokenizer(self) -> bytes | None:
    """The tokenizer that the weights were trained with, where one is kept beside them."""
    file = self.place / TOKENIZER
    return file.read_bytes() if file.is_file() else None

  def check_model(self, model: Any) -> None:
    """Raises UserError, naming the first field, where the weights are of a model that computes something else."""
    wanted = config.to_dict(model)
    absent = {field.name: field.default for field in dataclasses.fields(model)}  # one that came later is the default
    fields = [*self.model, *(field for field in wanted if field not in self.model)]
    found = {name: self.model.get(name, absent.get(name)) for name in fields}
    apart = [name for name in fields if name not in FREE and found[name] != wanted.get(name)]
    if apart:
      pairs = ", ".join(f"{name}: {found[name]} -> {wanted.get(name)}" for name in apart[:2])
      more = f" and {len(apart) - 2} more" if len(apart) > 2 else ""
      raise UserError(f"the weights in {self.place} are of another model ({pairs}{more}): make the stage's model equal")

  def laid(self, like: PyTree) -> PyTree:
    """The weights in the tree, and laid out over devices, as `like` is. Raises UserError naming arrays that differ."""
    wanted = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    self._check(wanted)
    return jax.tree.unflatten(
      jax.tree.structure(like), [_laid(self.arrays[path], leaf) for path, leaf in wanted.items()]
    )

  def _check(self, wanted: Mapping[str, Any]) -> None:
    there, asked = ({path: _text(x) for path, x in each.items()} for each in (self.arrays, wanted))
    lines = [
      f"params/{path} is {there.get(path, 'not there')}, wanted {asked.get(path, 'none')}"
      for path in sorted(there.keys() | asked.keys())
      if there.get(path) != asked.get(path)
    ]
    if lines:
      more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
      raise UserError(f"the weights in {self.place} are of another model: {'; '.join(lines[:2])}{more}")


def is_at(place: str | Place, stage: str) -> bool:
  """Whether weights for a stage of that name lie there, and not a run of one's own."""
  place = places.at(place)
  return any((place / name).is_file() for name in (weights.WEIGHTS, f"{stage}.safetensors"))


def read(place: str | Place, stage: str) -> Stored:
  """The weights that lie there. Raises UserError where they are damaged, or in a bucket."""
  place = places.at(place)
  if places.in_bucket(place):
    raise UserError(f"{place} holds weights as files, which are read from this machine's disk: copy them here")
  if weights.is_at(place):
    found = weights.load(place)
    arrays = {name.replace(".", "/"): array for name, array in weights.flat(found.params).items()}
    return Stored(place=place, arrays=arrays, digest=found.digest, model=config.to_dict(found.config))
  return exported(place, stage)


def exported(place: Path, stage: str) -> Stored:
  """What `dalle checkpoint export` wrote of that stage. Raises UserError where it is not whole."""
  file, again = place / f"{stage}.safetensors", "export it again"
  try:
    with safe_open(file, "numpy") as opened:
      arrays = {name.replace(".", "/"): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
      about = opened.metadata() or {}
    told = json.loads((place / "experiment.json").read_text())
    model = told["stages"][stage]["objective"]["model"]
  except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"{file} or its experiment.json is damaged or not there: {again}") from error
  digest = checkpoint.digest(arrays)
  if about.get("sha256") != digest:
    raise UserError(f"{file} is not as it was written (its digest differs): {again}")
  return Stored(place=place, arrays=arrays, digest=digest, model=model)


def _laid(array: np.ndarray, like: Any) -> jax.Array:
  """Copies: the step that is given these may write where they lie."""
  if like.sharding is None:
    return jnp.array(array)
  return jax.make_array_from_callback(like.shape, like.sharding, lambda index: jnp.array(array[index]))


def _text(x: Any) -> str:
  return f"{x.dtype}[{','.join(map(str, x.shape))}]"
