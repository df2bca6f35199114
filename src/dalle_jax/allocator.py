"""Keeps the memory that a step frees, so that the next step need not ask the kernel for it again.

XLA's CPU backend allocates a program's temporary buffers anew at each call. glibc hands large ones back to the kernel
as soon as they are freed, and the next call pays a page fault for every 4 KiB: a third of a small train step's time
(docs/benchmarks.md). With these settings freed memory stays with the process.
"""

import ctypes
import sys

# glibc's <malloc.h>: parameters of mallopt, and the values that keep memory.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SETTINGS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))  # no mmap, never trim, one heap for all threads


def keep_freed_memory() -> bool:
  """Applies the settings to this process, before it starts threads; whether its C library has them."""
  if sys.platform != "linux":
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
  return mallopt is not None and all(mallopt(*setting) == 1 for setting in _SETTINGS)
