"""Converted weights on disk: DIR/weights.safetensors, DIR/config.json, and files that came with them (vocabularies).

config.json tells {format, kind, config, sources: [{file, sha256}], files: {name: sha256}, digest, dalle_jax}. The
digest is that of a checkpoint with these weights, so codes that one dVAE made are those of the other.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dalle_jax import __version__, config, places
from dalle_jax.convert import kinds
from dalle_jax.errors import UserError
from dalle_jax.training import checkpoint

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights of a kind: its sizes, parameters (NumPy, float32), and the digest of these.

  files: what came with them, by name, where it lies.
  """

  kind: str
  config: Any
  params: PyTree
  digest: str
  files: Mapping[str, Path] = dataclasses.field(default_factory=dict)


def save(
  directory: str | Path, kind: str, cfg: Any, params: PyTree, *, sources: Sequence[Path], files: Sequence[Path] = ()
) -> str:
  """Writes into an empty directory, which the caller moves to its place when it is whole. The digest.

  sources: the files that the weights were read from; files: those to be kept beside them. Raises UserError where a
  parameter is not finite.
  """
  directory, arrays = Path(directory), flat(params)
  for name, array in arrays.items():
    if not np.isfinite(np.asarray(array, np.float32)).all():
      raise UserError(f"the parameter {name} holds NaN or infinity: the file is damaged, or was saved broken")
  digest = checkpoint.digest({name.replace(".", "/"): array for name, array in arrays.items()})
  save_file(arrays, directory / WEIGHTS)
  (directory / WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
  for file in files:
    (directory / file.name).write_bytes(file.read_bytes())
  told = {
    "format": FORMAT,
    "kind": kind,
    "config": config.to_dict(cfg),
    "sources": [{"file": file.name, "sha256": places.sha256(file)} for file in sources],
    "files": {file.name: places.sha256(file) for file in files},
    "digest": digest,
    "dalle_jax": __version__,
  }
  (directory / CONFIG).write_text(json.dumps(told, indent=2) + "\n")
  return digest


def is_at(directory: Path) -> bool:
  """Whether converted weights lie there."""
  return (directory / WEIGHTS).is_file() and (directory / CONFIG).is_file()


def load(directory: str | Path) -> Weights:
  """Reads what `save` wrote. Raises UserError where it is not there, of another version, or not as it was written."""
  directory = Path(directory)
  if not is_at(directory):
    raise UserError(
      f"{directory} holds no converted weights ({WEIGHTS}, {CONFIG}): `dalle convert FILE --out {directory}`"
    )
  again = "convert the original files again"
  try:
    told = json.loads((directory / CONFIG).read_text())
    version, kind, files, sizes = told["format"], told["kind"], dict(told["files"]), dict(told["config"])
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{directory / CONFIG} is damaged: {again}") from error
  if version != FORMAT:
    raise UserError(f"{directory} is of format {version}, this version reads {FORMAT}: {again}")
  cfg = config.from_dict(kinds.one(kind).config, sizes, f"{directory / CONFIG}: config")
  arrays = read_arrays(directory / WEIGHTS)
  digest = checkpoint.digest({name.replace(".", "/"): array for name, array in arrays.items()})
  if digest != told.get("digest"):
    raise UserError(f"{directory / WEIGHTS} is not as it was written (its digest differs): {again}")
  for name, sha in files.items():
    if Path(name).name != name or not (directory / name).is_file() or places.sha256(directory / name) != sha:
      raise UserError(f"{directory / name} is not there or not as it was written: {again}")
  return Weights(kind, cfg, _tree(arrays), digest, {name: directory / name for name in files})


def read_arrays(file: Path) -> dict[str, np.ndarray]:
  """The arrays of a safetensors file of ours. Raises UserError where it is damaged."""
  try:
    with safe_open(file, "numpy") as opened:
      return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  it is no dict
  except (SafetensorError, OSError) as error:
    raise UserError(f"{file} is damaged or cut off ({' '.join(str(error).split())[:100]})") from error


def flat(params: PyTree) -> dict[str, np.ndarray]:
  """Parameters, a tree of dicts, by dotted names."""
  return dict(_leaves(params, ""))


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
  if not isinstance(tree, Mapping):
    yield path, np.asarray(tree, order="C")
    return
  for key, inner in tree.items():
    yield from _leaves(inner, f"{path}.{key}" if path else key)


def _tree(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for name, array in arrays.items():
    *folders, leaf = name.split(".")
    inside = tree
    for folder in folders:
      inside = inside.setdefault(folder, {})
    inside[leaf] = array
  return tree
