"""Arrays of the files that torch.save and torch.jit.save write, without torch: both its formats.

    zip       NAME/data.pkl, NAME/data/KEY (a storage, uncompressed), NAME/byteorder; TorchScript adds NAME/code/...
    legacy    five pickles (magic number, version, machine, what was saved, keys), then each storage: its count, numbers

Nothing of a file is run or unpacked to the disk, and nothing compressed is opened, so that a small file can not grow.
"""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dalle_jax.convert import pickles, tensors
from dalle_jax.convert.tensors import Storage, Tensor
from dalle_jax.errors import UserError

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def read_zip(path: Path) -> dict[str, np.ndarray]:
  """Arrays by name. Raises UserError in one line for a file that is damaged, malicious, or of another kind."""
  try:
    with zipfile.ZipFile(path) as archive:
      return _from_zip(path, archive)
  except UserError:
    raise
  except (zipfile.BadZipFile, EOFError, RuntimeError, struct.error, ValueError, OSError) as error:
    raise UserError(f"{path} is damaged or cut off ({_reason(error)}): fetch the file again") from error


def read_legacy(path: Path) -> dict[str, np.ndarray]:
  """As `read_zip`, for what torch before 1.6 wrote, and any pickle: that torch did not write it is told."""
  with path.open("rb") as stream:
    own = f"{path} is a pickle, but not one that torch.save wrote: name the file as its project published it"
    if _unpickled(path, stream) != MAGIC or _unpickled(path, stream) != VERSION:
      raise UserError(own)
    machine = _unpickled(path, stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
      raise UserError(f"{path} was written on a big-endian machine, which is not read: save it again on another")
    found: dict[str, Storage] = {}
    value = _unpickled(path, stream, found)
    places = _places(path, stream, found, _unpickled(path, stream))
    return _arrays(path, tensors.named(str(path), value), lambda own: _numbers(path, stream, places[own.key], own))


def _from_zip(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
  entries = {entry.filename: entry for entry in archive.infolist()}
  if len(entries) != len(archive.infolist()):
    raise UserError(f"{path} holds two files of one name, as torch never writes: do not trust it")
  for name in entries:
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
      raise UserError(f"{path} holds a file named {name[:60]!r}, as torch never writes: do not trust it")
  roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
  if len(roots) != 1:
    raise UserError(f"{path} is a zip file, but not one that torch.save wrote: it holds no NAME/data.pkl")
  packed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED and _read(name)]
  if packed or sum(entry.file_size for name, entry in entries.items() if _read(name)) > path.stat().st_size:
    raise UserError(f"{path} holds compressed or overlapping files, as torch never writes: it could grow without end")
  (root,) = roots
  if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
    raise UserError(f"{path} was written on a big-endian machine, which is not read: save it again on another")
  found: dict[str, Storage] = {}
  value = _unpickled(path, io.BytesIO(archive.read(f"{root}data.pkl")), found)

  def numbers(own: Storage) -> np.ndarray:
    entry = entries.get(f"{root}data/{own.key}")
    if entry is None or entry.file_size < own.numel * own.dtype.itemsize:
      there = "is not there" if entry is None else f"has {entry.file_size:,} bytes"
      raise UserError(f"{path}: storage {own.key} {there}, {own.numel:,} {own.dtype} are wanted: fetch the file again")
    return np.frombuffer(archive.read(entry), own.dtype, own.numel)

  return _arrays(path, tensors.named(str(path), value), numbers)


def _read(name: str) -> bool:
  """Whether a file of the archive is one that is read; code and debugging notes of TorchScript may be compressed."""
  inner = name.partition("/")[2]
  return inner in ("data.pkl", "byteorder") or inner.startswith("data/")


def _unpickled(path: Path, stream: io.BufferedIOBase, found: dict[str, Storage] | None = None) -> object:
  """The value of the pickle at the stream's place; storages that it names are added to `found`."""

  def persistent(pid: object) -> object:
    if found is None:
      raise pickles.Refused("has a persistent id where torch writes none")
    value = tensors.storage(pid)
    if isinstance(value, Storage) and found.setdefault(value.key, value) != value:
      raise pickles.Refused(f"has two storages with the key {value.key}")
    return value

  try:
    return pickles.read(stream, tensors.ALLOWED, persistent)
  except (ValueError, OverflowError, RecursionError, struct.error, UnicodeError) as error:
    if isinstance(error, UserError):
      raise
    raise pickles.explain(str(path), error) from error


def _arrays(path: Path, named: dict[str, Tensor], numbers: Callable[[Storage], np.ndarray]) -> dict[str, np.ndarray]:
  """The tensors' arrays, each storage read once."""
  read = {own.key: numbers(own) for own in {tensor.storage.key: tensor.storage for tensor in named.values()}.values()}
  return {name: tensor.of(read[tensor.storage.key]) for name, tensor in named.items()}


def _places(path: Path, stream: io.BufferedIOBase, found: dict[str, Storage], keys: object) -> dict[str, int]:
  """Where in a legacy file each storage's numbers begin."""
  if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(found):
    raise UserError(f"{path} is damaged: its list of storages is not that of its tensors; fetch the file again")
  end, places = path.stat().st_size, {}
  for key in keys:
    own, count = found[key], stream.read(8)
    places[key] = stream.tell()
    after = places[key] + own.numel * own.dtype.itemsize
    if len(count) < 8 or int.from_bytes(count, "little", signed=True) != own.numel or after > end:
      raise UserError(f"{path} is damaged or cut off at storage {key} of {own.numel:,} numbers: fetch the file again")
    stream.seek(after)
  return places


def _numbers(path: Path, stream: io.BufferedIOBase, place: int, own: Storage) -> np.ndarray:
  stream.seek(place)
  return np.frombuffer(stream.read(own.numel * own.dtype.itemsize), own.dtype, own.numel)


def _reason(error: Exception) -> str:
  return " ".join(str(error).split())[:100] or type(error).__name__
