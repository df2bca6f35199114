"""Whether a data set's files are still as they were written: prepared pictures and codes have manifests too.

TFDS and ArrayRecord notice some of what can happen to a file: not a split's shards in another's place, a count that is
one less, a picture's bytes in a record whose checksum fits.
"""

import logging
from pathlib import Path

from dalle_jax import manifest
from dalle_jax.errors import StorageError

log = logging.getLogger(__name__)

# Bytes of a data set up to which all of it is hashed each time it is opened: seconds. Beyond, sizes are compared.
MOST_HASHED = 2 << 30
# What no training reads, and who looks through a data set may remove.
LEFT_OUT = ("dropped.jsonl", "report.json")


def seal(directory: Path) -> None:
  """Writes the manifest, when all else is written."""
  manifest.write(directory, {}, leave_out=LEFT_OUT)


def check(directory: Path, again: str) -> None:
  """Raises StorageError, with what makes it `again`, naming the first file that is missing or not as it was written.

  All bytes are looked at where they are not more than MOST_HASHED. A directory without a manifest, as of a data set
  that TFDS wrote itself, gets a warning.
  """
  if not (directory / manifest.NAME).exists():
    log.warning("%s has no %s: whether its files are intact is not known", directory, manifest.NAME)
    return
  size = sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
  problem = manifest.problem(directory, contents=size <= MOST_HASHED)
  if problem is not None:
    raise StorageError(f"{directory}: {problem}; copy it anew, or {again}")
