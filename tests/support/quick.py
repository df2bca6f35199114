"""How the tests compile: their programs run for less time than they take to compile, so they are compiled in a hurry.

As a program it prints the flags, for the Makefile. What one of the commands that tests start compiled the next one
takes; to compile anew, remove COMPILED.
"""

from importlib.metadata import version
from pathlib import Path

COMPILED = Path(__file__).parents[2] / ".pytest_cache" / "compiled"


def flags():
  """XLA's: LLVM's optimizations are left out, and MLIR for fusions too, where jaxlib still knows of another way."""
  older = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
  return "--xla_backend_optimization_level=0" + (" --xla_cpu_use_fusion_emitters=false" if older else "")


QUICK = {
  "JAX_PLATFORMS": "cpu",
  "XLA_FLAGS": flags(),
  "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
}

if __name__ == "__main__":
  print(flags())
