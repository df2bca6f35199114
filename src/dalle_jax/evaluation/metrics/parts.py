"""What is measured of each example, kept a part at a time, so that a measurement that was ended goes on.

    FOLDER/KEY/protocol.json         what the numbers depend on; KEY is the beginning of its SHA-256
    FOLDER/KEY/00000256-00000512.npz  the columns of examples 256 to 511, in the order they are measured

N examples.
"""

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from dalle_jax import places
from dalle_jax.data.scratch import FULL
from dalle_jax.errors import StorageError, UserError
from dalle_jax.evaluation.metrics import protocol

NAMES = "columns"  # of a part's own list of what it holds

Columns = Mapping[str, Shaped[np.ndarray, "N ..."]]
Compute = Callable[[int, int], Columns]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
  """The parts of one measurement; `bounds` are the examples at which they begin, and the end."""

  folder: Path
  bounds: tuple[int, ...]

  def files(self) -> Iterator[Path]:
    """The parts' files, in order."""
    for begin, end in zip(self.bounds, self.bounds[1:]):
      yield self.folder / f"{begin:08d}-{end:08d}.npz"

  def column(self, name: str) -> Shaped[np.ndarray, "N ..."]:
    """One column of all examples. Raises KeyError where there is none of that name."""
    return np.concatenate(list(self.each(name)))

  def each(self, name: str) -> Iterator[Shaped[np.ndarray, "N ..."]]:
    """The same, a part after the other: features of many pictures need not be in memory at once."""
    for file in self.files():
      with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        yield arrays[name]

  def bytes(self) -> int:
    """What the files take."""
    return sum(file.stat().st_size for file in self.files())


def measured(
  folder: Path,
  about: Mapping[str, Any],
  total: int,
  compute: Compute,
  *,
  size: int = 256,
  progress: Callable[[int], object] = lambda done: None,
) -> Parts:
  """Computes the parts that are not there yet. Calling again with an equal `about` and `total` computes nothing.

  about: everything that the numbers depend on; compute: the columns of examples begin to
  end; progress: told how many are done. A part that can't be read is computed anew. Raises UserError where the folder
  can't be written, StorageError on a full disk.
  """
  key = protocol.identity(about)
  parts = Parts(folder=folder / key, bounds=(*range(0, total, size), total))
  with _writing(parts.folder):
    parts.folder.mkdir(parents=True, exist_ok=True)
    places.write(parts.folder / "protocol.json", json.dumps(about, indent=2, sort_keys=True).encode() + b"\n")
  progress(0)
  for file, begin, end in zip(parts.files(), parts.bounds, parts.bounds[1:]):
    if not _whole(file, end - begin):
      columns = compute(begin, end)
      if wrong := {name: len(column) for name, column in columns.items() if len(column) != end - begin}:
        raise ValueError(f"wanted columns of {end - begin} examples, got {wrong}")
      data = io.BytesIO()
      np.savez(data, **columns, **{NAMES: np.array(sorted(columns))})
      with _writing(parts.folder):
        places.write(file, data.getvalue())
    progress(end)
  return parts


def _whole(file: Path, count: int) -> bool:
  """Whether the part is there, and every column can be read to its end."""
  try:
    # Opened here: of a file that is none, NumPy would leave its own handle open.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
      names = arrays[NAMES].tolist()
      return {*names, NAMES} == set(arrays.files) and all(len(arrays[name]) == count for name in names)
  except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
    return False  # RuntimeError: of a file that says it is encrypted, or compressed in a way that there is not


class _writing:
  """Within it, a file that can't be written becomes one line."""

  def __init__(self, folder: Path):
    self._folder = folder

  def __enter__(self) -> None:
    return None

  def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
    if isinstance(error, OSError):
      said = f"cannot write what is measured to {self._folder}: {error.strerror or error}"
      raise (StorageError if error.errno in FULL else UserError)(said) from error
