"""The judge's readings of many pictures, in as many processes as there are processors: it takes milliseconds for each.

N pictures of a group, H W pixels.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from jaxtyping import UInt8

from dalle_jax.data import scene_reading
from dalle_jax.data.scene_reading import Reading

FEW = 1000  # pictures that are read sooner than processes start


def read_groups(groups: Sequence[UInt8[np.ndarray, "_ H W 3"]]) -> Iterator[list[Reading]]:
  """The readings of each group's pictures, group after group."""
  processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  if processes == 1 or sum(len(group) for group in groups) < FEW:
    yield from map(read, groups)
    return
  # Not forked: XLA's threads would leave their locks held in the child.
  with _one_thread_each(), ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
    yield from pool.map(read, groups, chunksize=4)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
  """Processes started inside do their matrix products in one thread: more would wait for each other's cores."""
  before = os.environ.get("OMP_NUM_THREADS")
  os.environ["OMP_NUM_THREADS"] = "1"
  try:
    yield
  finally:
    if before is None:
      del os.environ["OMP_NUM_THREADS"]
    else:
      os.environ["OMP_NUM_THREADS"] = before


def read(images_NHWC: UInt8[np.ndarray, "N H W 3"]) -> list[Reading]:
  """The reading of each picture; samples of one caption are often equal, and equal ones are read once."""
  distinct, index_N = np.unique(images_NHWC.reshape(len(images_NHWC), -1), axis=0, return_inverse=True)
  readings = scene_reading.read(distinct.reshape(-1, *images_NHWC.shape[1:]))
  return [readings[i] for i in index_N]
