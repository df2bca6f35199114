"""Batches as a function of (seed, step): the same whatever process, worker or restart they are read by.

    global row i = step * batch + b    of epoch i // n, in an order of its own; seen with a generator of (seed, i)
    a process                          reads those of the batch's equal parts that its devices hold

Resuming is a slice. Threads read ahead; with `workers` processes do, which die with their parent. One that is killed
ends the stream.
"""

import ctypes
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from dalle_jax.errors import PeerLost, UserError

Example = dict[str, np.ndarray]
View = Callable[[Any, np.random.Generator], Example]

THREADS, AHEAD = 2, 16
FOR_EVER = 2**62  # rows; Grain's own number, 2**63 - 1, overflows where it is rounded up to whole batches


def batches(
  source: Sequence[Any],
  view: View,
  *,
  seed: int,
  batch: int,
  first: int = 0,
  parts: Sequence[int] = (0,),
  of: int = 1,
  workers: int = 0,
) -> Iterator[Example]:
  """Of the batches of steps `first`, first + 1, ... for ever, each split into `of` equal parts, these `parts`.

  view: one record of the source, and a generator of its own, to arrays. Raises UserError when the source is empty or
  the batch does not divide into the parts; the iterator raises PeerLost when one of the workers was killed.
  """
  if not len(source):
    raise UserError("there is no example to train on: the split is empty")
  if batch % of:
    raise UserError(f"a batch of {batch} does not divide into {of} parts: change the batch")
  share = batch // of * len(parts)
  rows = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  rows = _Share(rows.random_map(_Viewed(view)), batch=batch, parts=tuple(parts), of=of)
  steps = rows.batch(share)[first:]
  ahead = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
  stream = steps.to_iter_dataset(ahead)
  if workers:
    _allow_workers()
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_die_with_parent)
    return _of_workers(iter(stream))
  return iter(stream)


class _Share(grain.MapDataset):
  """Of each batch's rows, those of some of its equal parts, one part after the other."""

  def __init__(self, parent: grain.MapDataset, *, batch: int, parts: tuple[int, ...], of: int):
    super().__init__(parent)
    self._batch, self._parts, self._rows = batch, parts, batch // of

  def __len__(self) -> int:
    return FOR_EVER

  def __getitem__(self, index: int | slice) -> Any:
    if isinstance(index, slice):
      return self.slice(index)
    step, place = divmod(index, self._rows * len(self._parts))
    part, row = divmod(place, self._rows)
    return self._parent[step * self._batch + self._parts[part] * self._rows + row]


class _Viewed(grain.transforms.RandomMap):
  def __init__(self, view: View):
    self._view = view

  def random_map(self, element: Any, rng: np.random.Generator) -> Example:
    return self._view(element, rng)


def _of_workers(stream: grain.DatasetIterator) -> Iterator[Example]:
  """The stream, which ends its workers when it is closed. Raises PeerLost when one of them was killed."""
  try:
    yield from stream
  except RuntimeError as error:
    died = re.match(r"Worker process was terminated unexpectedly with (exit code -?\d+)", str(error))
    if died is None:
      raise
    raise PeerLost(
      f"a data worker died ({died[1]}; the system kills where memory runs out): start the same command again"
    ) from error
  finally:
    stream.close()


def _allow_workers() -> None:
  """Grain starts workers by way of absl, which wants its flags parsed; this program has none of absl's."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  # Python's tracker frees the shared memory that a killed worker leaves. It is not to have the last word about that.
  quiet = "ignore:resource_tracker:UserWarning"
  if quiet not in sys.warnoptions:
    sys.warnoptions.append(quiet)


def _die_with_parent(index: int, count: int) -> None:
  """Asks Linux to kill this worker when its parent ends, however that ends: Grain's would stay for ever."""
  del index, count
  die_with_parent = 1  # PR_SET_PDEATHSIG
  ctypes.CDLL("libc.so.6", use_errno=True).prctl(die_with_parent, signal.SIGKILL)
