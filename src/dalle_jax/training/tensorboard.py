"""TensorBoard's event files, written by the caller's own thread.

SummaryWriter hands its events to a thread. On a full disk that thread dies unheard, and once its queue is full the run
waits for it for ever.
"""

import contextlib
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

FLUSH_EVERY_S = 20.0


class Board:
  """Appends to a new event file in `directory`; points from `purge_step` on that earlier files hold are hidden.

  Every method but `close` raises OSError when it can't be written.
  """

  def __init__(self, directory: Path, purge_step: int):
    directory.mkdir(parents=True, exist_ok=True)
    # TensorBoard takes files whose names hold "tfevents", in the order of their names.
    self._records = RecordWriter(str(directory / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"))
    self._flushed = time.monotonic()
    self._add(0, file_version="brain.Event:2")
    self._add(purge_step, session_log=SessionLog(status=SessionLog.START))

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """A point on each curve."""
    for name, value in values.items():
      self._add(step, summary=summary.scalar(name, value))
    if time.monotonic() - self._flushed > FLUSH_EVERY_S:
      self._flush()

  def picture(self, step: int, name: str, picture_HWC: np.ndarray) -> None:
    """A uint8[H, W, 3] picture."""
    self._add(step, summary=summary.image(name, picture_HWC, dataformats="HWC"))
    self._flush()

  def close(self) -> None:
    """Writes what is left. What a full disk has no room for then is in metrics.jsonl, and was told of already."""
    with contextlib.suppress(OSError):
      self._records.close()

  def _flush(self) -> None:
    self._records.flush()
    self._flushed = time.monotonic()

  def _add(self, step: int, **what: object) -> None:
    self._records.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())
