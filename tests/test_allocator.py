"""Freed memory stays with the process: what it takes again costs no page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from dalle_jax import allocator

if sys.argv[1] == "keep":
  assert allocator.keep_freed_memory()
def use():
  for _ in range(8):
    np.ones(1 << 24)  # 128 MiB, 32,768 pages
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
  done = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
  return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_taken_again_without_page_faults():
  assert faults("plain") > 1000  # NumPy asks for huge pages, so fewer than one for each 4 KiB
  assert faults("keep") < 100
