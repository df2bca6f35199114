"""Arrays by name of any file of weights: PyTorch's, safetensors, Flax's msgpack, and folders of Hugging Face.

What a file is, is told by its first bytes, not by its name. Nothing in it is run.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
from safetensors import SafetensorError, safe_open

from dalle_jax.convert import torch_files
from dalle_jax.errors import UserError

SUFFIXES = (".pt", ".pth", ".pkl", ".bin", ".ckpt", ".safetensors", ".msgpack")
KINDS = "PyTorch (.pt .pth .pkl .bin .ckpt), safetensors or Flax msgpack"
# What a folder of Hugging Face keeps its weights in, the first that there is; an index names the files of several.
IN_A_FOLDER = (
  *("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"),
  "flax_model.msgpack",
)
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
NOT_WEIGHTS = {
  b"version https://git-lfs": "is a pointer of Git LFS, not the file: run `git lfs pull` where it comes from",
  b"<!DOCTYPE": "is a web page, not the file: download it again",
  b"<html": "is a web page, not the file: download it again",
}
# Flax writes an array as an extension of msgpack, inside of which stand its shape, dtype and bytes.
EXT_ARRAY, EXT_SCALAR = 1, 3


def arrays(path: str | Path) -> dict[str, np.ndarray]:
  """The arrays of a file, or of a folder of Hugging Face, by their dotted names, in the dtypes they are kept in.

  Arrays may be views that can't be written. Raises UserError in one line where there is no such file, where it is
  damaged, malicious, or of a kind that is not read.
  """
  path = Path(path)
  if path.is_dir():
    return _from_folder(path)
  try:
    with path.open("rb") as stream:
      begin = stream.read(512)
    return _reader(path, begin)(path)
  except FileNotFoundError:
    raise UserError(f"no file {path}") from None
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def parts(path: Path) -> tuple[Path, ...]:
  """The files that `arrays` reads of a file or a folder; of a folder with an index, that too."""
  if not path.is_dir():
    return (path,)
  if whole := next((path / name for name in IN_A_FOLDER if (path / name).is_file()), None):
    return (whole,)
  index = next(path / name for name in INDICES if (path / name).is_file())
  return (index, *(path / part for part in sorted(set(_named_in(index).values()))))


def _reader(path: Path, begin: bytes) -> Callable[[Path], dict[str, np.ndarray]]:
  if not begin:
    raise UserError(f"{path} is empty: fetch the file again")
  for start, told in NOT_WEIGHTS.items():
    if begin.lstrip()[: len(start)].lower() == start.lower():
      raise UserError(f"{path} {told}")
  if begin.startswith(b"PK"):
    return torch_files.read_zip
  if begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") < 100 << 20:
    return _from_safetensors
  if path.suffix == ".safetensors":
    raise UserError(f"{path} is no safetensors file, or is damaged: fetch the file again")
  if path.suffix == ".msgpack":
    return _from_msgpack
  if begin[0] == 0x80 or path.suffix in SUFFIXES:
    return torch_files.read_legacy
  raise UserError(f"{path} is no file of weights that is known; wanted {KINDS}, or a folder of Hugging Face")


def _from_safetensors(path: Path) -> dict[str, np.ndarray]:
  try:
    with safe_open(path, "numpy") as file:
      return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
  except (SafetensorError, TypeError, ValueError) as error:
    raise UserError(f"{path} is damaged or cut off ({_reason(error)}): fetch the file again") from error


def _from_msgpack(path: Path) -> dict[str, np.ndarray]:
  try:
    tree = msgpack.unpackb(path.read_bytes(), ext_hook=_array, raw=False, strict_map_key=False)
    found = dict(_flat(tree, ""))
  except (ValueError, TypeError, KeyError, RecursionError, msgpack.UnpackException) as error:
    raise UserError(f"{path} is no msgpack file of Flax, or is damaged ({_reason(error)})") from error
  if not found:
    raise UserError(f"{path} is msgpack, but holds no arrays as Flax writes them")
  return found


def _array(code: int, data: bytes) -> np.ndarray | msgpack.ExtType:
  """An array as flax.serialization writes it: (shape, dtype's name, bytes in C order)."""
  if code not in (EXT_ARRAY, EXT_SCALAR):
    return msgpack.ExtType(code, data)
  shape, name, buffer = msgpack.unpackb(data, raw=True)
  dtype = np.dtype(ml_dtypes.bfloat16) if name == b"bfloat16" else np.dtype(name.decode())
  if dtype.kind not in "biufc" and dtype != ml_dtypes.bfloat16:
    raise ValueError("an array of something else than numbers")
  return np.frombuffer(buffer, dtype).reshape(shape)


def _flat(tree: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
  if isinstance(tree, np.ndarray):
    yield path, tree
  elif isinstance(tree, dict) and "__msgpack_chunked_array__" in tree:
    yield path, _joined(tree)
  elif isinstance(tree, dict):
    for key, inner in tree.items():
      yield from _flat(inner, f"{path}.{key}" if path else str(key))


def _joined(tree: Mapping[str, Any]) -> np.ndarray:
  """An array of more than a GiB, which Flax cuts into numbered pieces."""
  shape, pieces = tree["shape"], tree["chunks"]
  return np.concatenate([pieces[str(i)] for i in range(len(pieces))]).reshape(
    [shape[str(i)] for i in range(len(shape))]
  )


def _from_folder(folder: Path) -> dict[str, np.ndarray]:
  for name in IN_A_FOLDER:
    if (folder / name).is_file():
      return arrays(folder / name)
  for name in INDICES:
    if (folder / name).is_file():
      return _from_index(folder, name)
  raise UserError(
    f"{folder} holds no weights of Hugging Face: wanted {', '.join(IN_A_FOLDER[:3])}, or an index of them"
  )


def _named_in(index: Path) -> dict[str, Any]:
  """The file of each array, as an index tells."""
  try:
    told = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    set(told.values())  # what can't be the name of a file has no hash
    return told
  except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
    raise UserError(f"{index} is no index of weights: it wants a weight_map of names to files") from error


def _from_index(folder: Path, index: str) -> dict[str, np.ndarray]:
  told = _named_in(folder / index)
  found: dict[str, np.ndarray] = {}
  for part in sorted(set(told.values()), key=str):
    if not isinstance(part, str) or Path(part).name != part:
      raise UserError(f"{folder / index} names the file {part!r}, which is not in its folder: do not trust it")
    found |= arrays(folder / part)
  missing = sorted(told.keys() - found.keys())
  if missing:
    raise UserError(f"{folder}: {missing[0]}, of {told[missing[0]]}, is not there: fetch the file again")
  return found


def merged(paths: list[Path]) -> dict[str, np.ndarray]:
  """The arrays of several files. Where two hold one name, every name begins with its file's: encoder.blocks.input.w."""
  read = [(path, arrays(path)) for path in paths]
  names = [name for _, own in read for name in own]
  if len(set(names)) == len(names):
    return {name: array for _, own in read for name, array in own.items()}
  stems = [path.stem for path in paths]
  if len(set(stems)) < len(stems):
    raise UserError(f"{paths[0]} and {paths[1]} hold arrays of the same names: give the files names that differ")
  return {f"{stem}.{name}": array for stem, (_, own) in zip(stems, read) for name, array in own.items()}


def _reason(error: Exception) -> str:
  return " ".join(str(error).split())[:100] or type(error).__name__
