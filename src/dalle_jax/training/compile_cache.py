"""Compiled programs kept in the workdir, so that a run that goes on does not compile them again."""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from dalle_jax import processes


@contextlib.contextmanager
def under(workdir: Path) -> Iterator[None]:
  """Within it, what takes a second or more to compile is kept in WORKDIR/xla_cache, and taken from there.

  A directory that JAX was told of already (JAX_COMPILATION_CACHE_DIR) stays the one. Nothing is removed but what a kill
  cut short, which JAX itself would find unreadable at each start and never replace.
  """
  if jax.config.jax_compilation_cache_dir:
    yield
    return
  directory = workdir / "xla_cache"
  for file in directory.glob("*-cache") if processes.index() == 0 else ():
    if not _whole(file.read_bytes()):
      file.unlink()
  _keep_in(str(directory))
  try:
    yield
  finally:
    _keep_in(None)


def _whole(entry: bytes) -> bool:
  """Whether an entry that JAX compressed by zlib (its first byte is an x) is there to its end."""
  if entry[:1] not in (b"", b"x"):
    return True
  stream = zlib.decompressobj()
  try:
    stream.decompress(entry)
  except zlib.error:
    return False
  return stream.eof


def _keep_in(directory: str | None) -> None:
  jax.config.update("jax_compilation_cache_dir", directory)
  compilation_cache.reset_cache()
