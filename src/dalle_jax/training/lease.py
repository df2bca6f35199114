"""One job a workdir in a bucket: a lease, an object that its holder renews, and that runs out when the holder is gone.

The bucket itself decides who of two gets it: each write names the generation of the object that it replaces.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from dalle_jax import places, processes
from dalle_jax.errors import StorageError, UserError

NAME = ".lease"
LASTS_S, RENEWED_EVERY_S = 90.0, 20.0
ABSENT = 0  # the generation of an object that is not there


@contextlib.contextmanager
def held(workdir: epath.Path) -> Iterator[None]:
  """Holds the workdir's lease. A dead holder's is waited for, for as long as it lasts.

  Raises UserError when another job renews it, or when the bucket can't be written. A holder who loses it all the same,
  because it could not renew it in time, ends at once with exit code 88.
  """
  lease = _Lease(workdir)
  lease.take()
  lease.renewing.start()
  try:
    yield
  finally:
    lease.give_back()


class _Lease:
  def __init__(self, workdir: epath.Path):
    from google.cloud import storage

    self._workdir = workdir
    bucket, _, name = f"{workdir}/{NAME}".removeprefix(places.BUCKET).partition("/")
    anonymous = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    self._client = storage.Client.create_anonymous_client() if anonymous else storage.Client()
    self._blob = self._client.bucket(bucket).blob(name)
    self._generation = ABSENT
    self._over = threading.Event()
    self.renewing = threading.Thread(target=self._keep, name="lease", daemon=True)

  def take(self) -> None:
    """Returns when it is held."""
    from google.api_core import exceptions

    try:
      generation, last = self._look()
      if last and last["until"] > time.time():
        generation = self._run_out(generation, last)
      self._write(generation)
    except exceptions.PreconditionFailed:
      raise UserError(f"{self._workdir} was taken by another job just now: take another --workdir") from None
    except UserError:
      raise
    except Exception as error:
      why = places.reason(error)
      raise UserError(f"cannot write to {self._workdir} ({why}): look at its name and your rights to it") from error

  def _run_out(self, generation: int, last: dict[str, Any]) -> int:
    """Waits for another's lease to run out, or to be given back, and returns the generation that then is there.

    Not longer than a lease lasts: one that nobody renews for so long is a dead one's, whatever its holder's clock said.
    """
    left = min(last["until"] - time.time(), LASTS_S)
    processes.say(f"dalle: {self._workdir}: waiting up to {left:.0f} s for the lease of {last['owner']} to run out")
    end = time.monotonic() + left
    while time.monotonic() < end:
      time.sleep(min(1.0, max(0.0, end - time.monotonic())))
      now, said = self._look()
      if now == ABSENT:
        return ABSENT
      if now != generation:
        owner = (said or last)["owner"]
        raise UserError(f"{self._workdir} is in use by {owner}: wait for it, or take another --workdir")
    return generation

  def give_back(self) -> None:
    """Removes it, unless another job has taken it."""
    self._over.set()
    self.renewing.join()
    with contextlib.suppress(Exception):  # it runs out by itself
      self._blob.delete(if_generation_match=self._generation)

  def _look(self) -> tuple[int, dict[str, Any] | None]:
    """The generation and what it says; None where there is none, or none that can be read."""
    found = self._blob.bucket.get_blob(self._blob.name)
    if found is None:
      return ABSENT, None
    try:
      said = json.loads(found.download_as_bytes())
      return found.generation, {"owner": str(said["owner"]), "until": float(said["until"])}
    except (ValueError, KeyError, TypeError):
      return found.generation, None

  def _write(self, replaced: int) -> None:
    owner = f"process {os.getpid()} of {socket.gethostname()}"
    body = json.dumps({"owner": owner, "until": time.time() + LASTS_S})
    self._blob.upload_from_string(body, if_generation_match=replaced, timeout=RENEWED_EVERY_S)
    self._generation = self._blob.generation

  def _keep(self) -> None:
    from google.api_core import exceptions

    renewed = time.monotonic()
    while not self._over.wait(RENEWED_EVERY_S):
      try:
        self._write(self._generation)
        renewed = time.monotonic()
      except Exception as error:
        lost = isinstance(error, exceptions.PreconditionFailed)
        if lost or time.monotonic() - renewed > LASTS_S - RENEWED_EVERY_S:
          why = "another job has taken it" if lost else "the bucket can't be written"
          said = f"the lease of {self._workdir} is lost: {why}; checkpoints are as they were"
          processes.say(f"dalle: {processes.name()}{said}")
          processes.leave(StorageError.exit_code)
