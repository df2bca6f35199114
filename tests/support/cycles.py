"""Both passes of the TPU kernels, compiled by a process of their own.

libtpu reads where to write its schedules when it is loaded, from an environment that every later child inherits. In the
test's own process the second folder of a worker would stay empty, and a plan's compiler would write down all it does.
"""

import contextlib
import functools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import jax
import jax.numpy as jnp

from dalle_jax.ops.sparse_attention import attend, tpu_cycles


def both(pattern, q, k, v, g):
  run = functools.partial(attend, pattern=pattern, implementation="pallas_tpu")
  o, pull = jax.vjp(run, q, k, v)
  return o, pull(g)


def shapes(pattern, dtype=jnp.bfloat16):
  """Two examples and two groups of heads: a loop, in which the next block is fetched beside this one's work."""
  return [jax.ShapeDtypeStruct((2, pattern.length, 4, 64), dtype)] * 4


def _compiled(folder, chip, pattern, dtype):
  tpu_cycles.compile_for(chip, functools.partial(both, pattern), *shapes(pattern, dtype))
  found = {kernel.name: kernel for kernel in tpu_cycles.kernels(folder) if "sparse_attention" in kernel.name}
  return {which: next(k for name, k in found.items() if which in name) for which in ("forward", "backward")}


@contextlib.contextmanager
def compiler(folder):
  """What compiles for a chip, where there is libtpu: (chip, pattern, dtype) to the kernels of both passes."""
  own = get_context("spawn")
  with ProcessPoolExecutor(1, mp_context=own, initializer=tpu_cycles.begin, initargs=(folder,)) as process:
    yield lambda chip, pattern, dtype=jnp.bfloat16: process.submit(_compiled, folder, chip, pattern, dtype).result()
