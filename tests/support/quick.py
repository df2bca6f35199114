"""The environment of the commands that tests start: their programs run for less time than they take to compile.

So they are compiled in a hurry, and what one command compiled the next one takes. To compile anew, remove COMPILED.
"""

from pathlib import Path

COMPILED = Path(__file__).parents[2] / ".pytest_cache" / "compiled"
QUICK = {
  "JAX_PLATFORMS": "cpu",
  "XLA_FLAGS": "--xla_backend_optimization_level=0",
  "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
}
