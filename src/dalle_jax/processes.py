"""The processes of one run: how they find each other, agree, and leave. A process that runs alone needs none of it.

All compute; process 0 writes what is written once, and the others wait for it. JAX is imported where it is used, since
`dalle --help` is not to wait for it.
"""

import contextlib
import dataclasses
import importlib.util
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dalle_jax.errors import PeerLost, StorageError, TrainingPreempted, TrainingUnhealthy, UserError

T = TypeVar("T")

# What a fact that the processes agree on takes at the most, in bytes.
FACT = 300
# What JAX's exchanges, its coordination service and Gloo say where a process is gone.
LOSSES = (
  "Gloo",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "ABORTED",
  "Socket closed",
  "Connection",
  "coordination",
  "arrier",
)
OWN_ERRORS = (UserError, StorageError, TrainingPreempted, TrainingUnhealthy, PeerLost)
_NOTHING = -1
ALONE = ("", 1, 0)
_joined = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
  """How this process finds the others. Nothing is needed where SLURM or a TPU slice says it, or with one process."""

  coordinator: str | None = None
  """HOST:PORT of process 0 (or JAX_COORDINATOR_ADDRESS)."""
  count: int | None = None
  """How many processes there are (or JAX_NUM_PROCESSES)."""
  index: int | None = None
  """Which one this is, from 0 (or JAX_PROCESS_ID)."""
  heartbeat: int = 10
  """Seconds without a sign of life after which a process counts as dead, and all others end."""
  patience: int = 300
  """Seconds that the processes wait for each other at the start."""
  step_limit: float = 1800.0
  """Seconds a step may take, with its save and pictures (the first one four times as many), before the process ends."""

  def __post_init__(self) -> None:
    for name in ("heartbeat", "patience", "step_limit"):
      if not getattr(self, name) > 0:
        raise UserError(f"got --processes.{name} {getattr(self, name)}, wanted a number of seconds above 0")


def join(given: Processes) -> None:
  """Joins the other processes of this run, if there are others: the first thing that JAX is asked for.

  Flags come before the environment: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; SLURM's, with more
  than one task; a TPU slice's, of GKE or of the metadata server. Raises UserError where these are not a whole, PeerLost
  where nobody answers at the coordinator's address.
  """
  global _joined
  where = _told(given)
  if where == ALONE or (where is None and not _by_slurm() and not _on_tpu()):
    return
  if where is not None:
    coordinator, count, index = where
    if index:
      _look_for(coordinator, given.patience)
    else:
      _check_free(coordinator)
  import jax

  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  patience = {"initialization_timeout": given.patience, "heartbeat_timeout_seconds": given.heartbeat}
  try:
    if where is None:
      jax.distributed.initialize(local_device_ids=_slurm_devices(), **patience)
    else:
      jax.distributed.initialize(coordinator, count, index, cluster_detection_method="deactivate", **patience)
  except (RuntimeError, ValueError) as error:
    if where is None and "should be defined" in str(error):
      return  # the chips of no slice
    raise PeerLost(f"cannot join the other processes: {_in_short(error)}") from error
  _joined = jax.process_count() > 1


def several() -> bool:
  """Whether this is one of several processes."""
  return _joined


def index() -> int:
  """Which process this is; 0 where there is one."""
  if not _joined:
    return 0
  import jax

  return jax.process_index()


def name() -> str:
  """This process, in a message: "process 1 of 2: "; nothing where there is one."""
  if not _joined:
    return ""
  import jax

  return f"process {jax.process_index()} of {jax.process_count()}: "


def by_first(fn: Callable[[], T]) -> T | None:
  """What fn gives, called by process 0 alone; None in the others, which wait for it.

  Raises there what fn raises, and PeerLost in the others.
  """
  if not _joined:
    return fn()
  if index():
    code = _from_first(0)
    if code:
      raise PeerLost(f"process 0 ended with code {code}: it says why", exit_code=code)
    return None
  try:
    result = fn()
  except Exception as error:
    _from_first(getattr(error, "exit_code", 1))
    raise
  _from_first(0)
  return result


def number_by_first(fn: Callable[[], int | None]) -> int | None:
  """The number (0 or more), or None, that fn gives when process 0 calls it, for all of them. Raises as `by_first`."""
  found = by_first(fn)
  told = _from_first(_NOTHING if found is None else found)
  return None if told == _NOTHING else told


def wait() -> None:
  """Returns when all processes are here."""
  by_first(lambda: None)


def tree_by_first(tree: Any) -> Any:
  """The arrays of process 0 as arrays of this process's own device; where there is one process, the tree as it is."""
  if not _joined:
    return tree
  import jax
  from jax.experimental import multihost_utils

  return jax.tree.map(jax.numpy.array, multihost_utils.broadcast_one_to_all(tree))


def gathered(tree: Any) -> Any:
  """Arrays that are spread over the processes, whole, on this process's own device; as they are where there is one."""
  if not _joined:
    return tree
  import jax
  from jax.experimental import multihost_utils

  return jax.tree.map(lambda x: jax.numpy.array(multihost_utils.process_allgather(x, tiled=True)), tree)


def agree(of: Callable[[], Mapping[str, str]]) -> None:
  """Raises UserError, in all processes, naming the first of these facts that is not the same in all of them."""
  if not _joined:
    return
  import numpy as np
  from jax.experimental import multihost_utils

  facts = of()
  rows = [np.frombuffer(text.encode()[:FACT].ljust(FACT), np.uint8) for text in facts.values()]
  told_PFC = multihost_utils.process_allgather(np.stack(rows))
  for at, fact in enumerate(facts):
    texts = [row.tobytes().decode(errors="replace").rstrip() for row in told_PFC[:, at]]
    other = next((i for i, text in enumerate(texts) if text != texts[0]), None)
    if other is not None:
      raise UserError(
        f"the processes differ in their {fact}: process 0 has {texts[0]}, process {other} {texts[other]}; "
        "start all with the same"
      )


def is_loss(error: Exception) -> bool:
  """Whether an error amid the others' work means that one of them is gone: no mistake, full disk or lack of memory.

  Told by its text: Orbax and NumPy raise what JAX told them as errors of other types.
  """
  if not _joined or isinstance(error, OWN_ERRORS):
    return False
  return any(word in str(error) for word in LOSSES)


def lost(error: Exception, doing: str) -> PeerLost:
  """What an error of JAX amid the others' work means."""
  return PeerLost(f"lost another process {doing} ({_in_short(error)}): start the same command again")


def say(line: str) -> None:
  """Last words: to stderr, past everything that may hold them up, and whatever becomes of them."""
  with contextlib.suppress(OSError, ValueError):
    os.write(2, f"{line}\n".encode())


def say_once(line: str) -> None:
  """To stderr, by the first process of several."""
  if index() == 0:
    print(line, file=sys.stderr, flush=True)


def leave(code: int) -> NoReturn:
  """Ends this process at once. The usual end waits for others, who wait for it."""
  os._exit(code)


def _told(given: Processes) -> tuple[str, int, int] | None:
  """Coordinator, count and index by flags or environment. Raises UserError where some are missing or can't be."""
  texts = {
    "coordinator": given.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"),
    "count": os.environ.get("JAX_NUM_PROCESSES") if given.count is None else str(given.count),
    "index": os.environ.get("JAX_PROCESS_ID") if given.index is None else str(given.index),
  }
  if texts["count"] is None and texts["index"] is None and given.coordinator is None:
    return None
  missing = [name for name, text in texts.items() if text is None]
  if missing:
    raise UserError(f"of several processes each needs --processes.{missing[0]} as well (or its environment variable)")
  coordinator, count, index = texts.values()
  if not re.fullmatch(r"[^\s:]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}", coordinator):
    raise UserError(f"got --processes.coordinator {coordinator}, wanted HOST:PORT of process 0, as in 10.0.0.1:5000")
  if not (count.isdecimal() and index.isdecimal() and 0 <= int(index) < int(count)):
    raise UserError(f"got process {index} of {count}, wanted an index from 0 to one less than the count")
  return (coordinator, int(count), int(index)) if int(count) > 1 else ALONE


def _look_for(coordinator: str, patience: int) -> None:
  """Returns once somebody answers there. JAX itself would end this process by SIGABRT, with pages of C++."""
  host, port = coordinator.rsplit(":", 1)
  until = time.monotonic() + patience
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=min(5, patience)).close()
    except OSError as error:
      if time.monotonic() > until:
        raise PeerLost(
          f"nobody answers at --processes.coordinator {coordinator} ({error.strerror or error}): start process 0 there"
        ) from error
      time.sleep(0.2)
    else:
      return


def _check_free(coordinator: str) -> None:
  """Raises UserError where this machine's port is taken, which JAX answers with a segmentation fault."""
  port = int(coordinator.rsplit(":", 1)[1])
  try:
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as taken:
      taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      taken.bind(("", port))
  except (OSError, OverflowError) as error:
    raise UserError(f"--processes.coordinator {coordinator}: its port can't be used ({error}): take another") from error


def _by_slurm() -> bool:
  return "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def _slurm_devices() -> list[int] | None:
  """All of a node's GPUs for its one task, of which JAX would take the first; None where JAX is right."""
  alone = re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
  seen = os.environ.get("CUDA_VISIBLE_DEVICES")
  count = len(seen.split(",")) if seen else int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
  return list(range(count)) if alone and count else None


def _on_tpu() -> bool:
  """Whether this is a host of a TPU slice: its libtpu is there, and the hosts' names or the chips are."""
  if importlib.util.find_spec("libtpu") is None:
    return False
  named = any(variable in os.environ for variable in ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"))
  return named or any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0"))


def _from_first(code: int) -> int:
  import numpy as np
  from jax.experimental import multihost_utils

  return int(multihost_utils.broadcast_one_to_all(np.int32(code)))


def _in_short(error: Exception) -> str:
  return " ".join(str(error).split())[:120]
