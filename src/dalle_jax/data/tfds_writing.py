"""A TFDS directory written whole or not at all, without TFDS's own bars and notices.

It is built in a hidden directory beside the place wanted and renamed at the end; what a killed run left is removed.
"""

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from dalle_jax.errors import StorageError, UserError


def write(make_builder: Callable[[Path], Any], out: Path, finish: Callable[[Path], object]) -> None:
  """Builds `make_builder(directory)`, lets `finish` add files to what TFDS wrote, and moves that to `out`.

  Raises UserError when `out` is there already or may not be written, StorageError when the disk is full. Whatever is
  raised, nothing is left behind.
  """
  out = out.absolute()
  if out.exists():
    raise UserError(f"{out} is there already: take another --out, or remove it")
  scratch = out.with_name(f".{out.name}.{os.getpid()}.unfinished")
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{out.name}.*.unfinished"):
      shutil.rmtree(left)
    with quiet_tfds():
      builder = make_builder(scratch)
      builder.download_and_prepare(file_format="array_record")
    written = Path(builder.data_dir)
    finish(written)
    written.rename(out)
  except (PermissionError, NotADirectoryError, FileExistsError) as error:
    raise UserError(f"cannot write to {out.parent} ({error.strerror}): take another --out") from error
  except OSError as error:
    raise StorageError(f"cannot write {out} ({error.strerror or error}); nothing is left of it") from error
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
  """Within it TFDS shows no bars and says nothing below an error."""
  absl = logging.getLogger("absl")
  level = absl.level
  tfds.disable_progress_bar()
  absl.setLevel(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    absl.setLevel(level)
