"""Compiled programs kept in the workdir, so that a run that goes on does not compile them again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


@contextlib.contextmanager
def under(workdir: Path) -> Iterator[None]:
  """Within it, what takes a second or more to compile is kept in WORKDIR/xla_cache, and taken from there.

  A directory that JAX was told of already (JAX_COMPILATION_CACHE_DIR) stays the one.
  """
  if jax.config.jax_compilation_cache_dir:
    yield
    return
  _keep_in(str(workdir / "xla_cache"))
  try:
    yield
  finally:
    _keep_in(None)


def _keep_in(directory: str | None) -> None:
  jax.config.update("jax_compilation_cache_dir", directory)
  compilation_cache.reset_cache()
