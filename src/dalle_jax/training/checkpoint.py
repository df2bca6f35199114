"""Checkpoints: written atomically in the background, verified when read. The one file that imports Orbax.

    DIR/STEP/params ema opt counters    arrays by path, each item readable without the others; and, where there are any,
             carried reduce             what the objective carries, and what PowerSGD keeps
    DIR/STEP/files/                     what explains them: experiment.json, tokenizer.model
    DIR/STEP/manifest.json              written last: size and SHA-256 of all the above

Orbax writes a step beside its place and renames it; it is good once the manifest is whole. A step that is not good is
named in a warning, passed over for the newest good one, and removed by the next save.
"""

import contextlib
import errno
import hashlib
import logging
import math
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from dalle_jax import manifest, places, processes
from dalle_jax.errors import PeerLost, StorageError, UserError
from dalle_jax.places import Place
from dalle_jax.sharding import path_name
from dalle_jax.training.step import State

log = logging.getLogger(__name__)

REDUCE = "reduce"  # the item, and the field of State
LEFT = "left/"  # how its paths begin whose arrays have an axis of replicas
TREES = ("params", "opt", "ema", "carried", REDUCE)  # each an item, where there is anything in it
COUNTERS = ("step", "norms", "skipped", "skipped_total", "skipped_spikes")

# Orbax reckons by the wall clock: with its own ten minutes, a clock that is set forward during a save makes it fail. A
# save that hangs is the watchdog's.
LONGEST_SAVE_S = 10 * 86_400

# An item of a checkpoint: its arrays by path, such as blocks/attention/kernel.
Item = dict[str, Any]


class Checkpoints:
  """The checkpoints of one stage. One job saves, all of its processes together; any number may read.

  Of its steps stay the newest `keep`, the multiples of `keep_every`, and the `keep_best` of the lowest loss.
  beforehand: called before each step is called good, by the process that does so.
  """

  def __init__(
    self,
    directory: Place,
    keep: int = 3,
    keep_every: int | None = None,
    keep_best: int = 0,
    beforehand: Callable[[], None] = lambda: None,
  ):
    self.directory = directory if places.in_bucket(directory) else Path(directory).absolute()
    self.keep, self.keep_every, self.keep_best, self._beforehand = keep, keep_every, keep_best, beforehand
    self._saver: ocp.AsyncCheckpointer | None = None
    self._finisher: threading.Thread | None = None
    self._error: Exception | None = None
    self._verified: set[int] = set()

  def good_steps(self) -> list[int]:
    """Steps with a whole manifest and every file at its size, ascending; contents are verified on restore."""
    return [step for step in self._steps() if not manifest.problem(self._path(step), contents=False)]

  def steps(self) -> list[int]:
    """Every step there is, good or not, ascending."""
    return self._steps()

  def problem(self, step: int, *, contents: bool) -> str | None:
    """Why a step is not good, in a few words, or None; without `contents`, presence and sizes of its files alone."""
    return self._problem(step) if contents else manifest.problem(self._path(step), contents=False)

  def arrays(self, step: int) -> dict[str, dict[str, str]]:
    """What a good step holds: item -> path of the array -> its dtype and shape, as in float32[3,4]."""
    return manifest.read(self._path(step))["arrays"]

  def read(self, step: int, item: str) -> dict[str, np.ndarray]:
    """An item's arrays by path, as NumPy's. Raises StorageError when the step is not good."""
    return self._read_numpy(self._chosen(step), item)

  def newest(self) -> int | None:
    """The newest step whose contents are verified; a warning of one line when newer ones are not good.

    None when no step was ever finished. Raises StorageError when some were and all are damaged.
    """
    bad = []
    for step in reversed(self._steps()):
      problem = self._problem(step)
      if problem is None:
        if bad:
          log.warning("%s: %s; going on from checkpoint %d", self.directory, "; ".join(bad), step)
        return step
      bad.append(f"checkpoint {step} is not good ({problem})")
    if any((self._path(step) / manifest.NAME).exists() for step in self._steps()):
      raise StorageError(f"{self.directory}: {bad[0]}, and no other is; remove the directory to begin again")
    if bad:
      log.warning("%s: %s; beginning again", self.directory, "; ".join(bad))
    return None

  def loss(self, step: int) -> float | None:
    """The loss that a good step was saved with; None where that was none, or not finite."""
    return manifest.read(self._path(step)).get("loss")

  def save(self, step: int, state: State, files: Mapping[str, bytes], loss: float | None = None) -> None:
    """Copies the state and returns; the rest happens in the background, one save at a time.

    loss: what `keep_best` goes by. Raises StorageError when this save or the one before could not be written; earlier
    steps are untouched.
    """
    self.wait()
    items = _items(state)
    try:
      processes.by_first(lambda: self._room_for(step, items))
      if self._saver is None:
        _quiet_orbax()
        self._saver = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), timeout_secs=LONGEST_SAVE_S)
      self._verified.discard(step)
      args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
      self._saver.save(self._path(step), args=ocp.args.Composite(**args))
    except (PeerLost, StorageError):
      raise
    except Exception as error:
      if processes.is_loss(error):
        raise
      raise self._cannot_save(step, error) from error
    arrays = {name: {path: _text(x) for path, x in item.items()} for name, item in items.items()}
    self._finisher = threading.Thread(target=self._finish, args=(step, arrays, dict(files), loss), name="checkpoint")
    self._finisher.start()

  def wait(self) -> None:
    """Returns when the save in the background is done. Raises StorageError when it failed."""
    if self._finisher is not None:
      self._finisher.join()
      self._finisher = None
    if self._error is not None:
      error, self._error = self._error, None
      raise error

  def close(self) -> None:
    """Waits, and ends Orbax's threads."""
    try:
      self.wait()
    finally:
      if self._saver is not None:
        self._saver.close()
        self._saver = None

  def restore(self, abstract: State) -> tuple[State, int] | None:
    """The newest good state, laid out as `abstract` says (any mesh), and its step; None where there is none yet.

    What PowerSGD's replicas have left is exact for as many replicas as saved it; for another number of them, each gets
    the mean, which is all that the next gradients depend on (paper, App. E: their sum is kept).

    Raises UserError naming the first arrays that differ from `abstract` in path, shape or dtype.
    """
    step = processes.number_by_first(self.newest)
    if step is None:
      return None
    wanted = _items(abstract)
    items = self._of_saved_replicas(step, wanted)
    self._check(step, items)
    return _rebuild(abstract, _shared(self._read(step, items), wanted)), step

  def restore_params(self, abstract_params: Any, step: int | None = None, ema: bool = True) -> Any:
    """The parameters alone, or their moving average where the checkpoint has one and `ema` is set.

    step: None takes the newest good one. Raises StorageError when there is none or the one asked for is not good,
    UserError when it is of another model.
    """
    step = self._chosen(step)
    name = self._weights(step) if ema else "params"
    wanted = {name: _flat(abstract_params)}
    self._check(step, wanted)
    found = self._read(step, wanted)[name]
    return jax.tree.unflatten(jax.tree.structure(abstract_params), [found[path] for path in wanted[name]])

  def files(self, step: int | None = None) -> dict[str, bytes]:
    """The files stored with a step (None: the newest good one)."""
    step = self._chosen(step)
    return {file.name: file.read_bytes() for file in sorted((self._path(step) / "files").iterdir())}

  def digest(self, step: int | None = None) -> str:
    """SHA-256 of the weights that `restore_params` gives: paths, dtypes, shapes and bits; equal for equal weights."""
    step = self._chosen(step)
    return digest(self._read_numpy(step, self._weights(step)))

  def _path(self, step: int) -> Place:
    return self.directory / str(step)

  def _steps(self) -> list[int]:
    return sorted(int(p.name) for p in places.inside(self.directory) if p.name.isdecimal() and p.is_dir())

  def _problem(self, step: int) -> str | None:
    if step in self._verified:
      return None
    problem = manifest.problem(self._path(step), contents=True)
    if problem is None:
      self._verified.add(step)
    return problem

  def _chosen(self, step: int | None) -> int:
    if step is None:
      step = self.newest()
      if step is None:
        raise StorageError(f"{self.directory} holds no checkpoint yet")
    problem = self._problem(step)
    if problem is not None:
      raise StorageError(f"{self.directory}: checkpoint {step} is not good ({problem})")
    return step

  def _weights(self, step: int) -> str:
    return "ema" if "ema" in manifest.read(self._path(step))["arrays"] else "params"

  def _check(self, step: int, wanted: Mapping[str, Item]) -> None:
    arrays = manifest.read(self._path(step))["arrays"]
    stored = {f"{name}/{path}": text for name in wanted for path, text in arrays.get(name, {}).items()}
    asked = {f"{name}/{path}": _text(x) for name, item in wanted.items() for path, x in item.items()}
    lines = [
      f"{path} is {stored.get(path, 'not there')}, wanted {asked.get(path, 'none')}"
      for path in sorted(stored.keys() | asked.keys())
      if stored.get(path) != asked.get(path)
    ]
    if lines:
      more = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
      raise UserError(f"checkpoint {step} of {self.directory} is of another model: {'; '.join(lines[:2])}{more}")

  def _of_saved_replicas(self, step: int, wanted: Mapping[str, Item]) -> Mapping[str, Item]:
    """The items, where PowerSGD was saved by another number of replicas with as many as that."""
    stored = manifest.read(self._path(step))["arrays"].get(REDUCE, {})

    def saved(path: str, x: Any) -> Any:
      other = _empty(stored[path]).shape if path in stored else x.shape
      if not path.startswith(LEFT) or other == x.shape or other[1:] != x.shape[1:]:
        return x
      layout = NamedSharding(x.sharding.mesh, PartitionSpec(None, *x.sharding.spec[1:]))
      return jax.ShapeDtypeStruct(other, x.dtype, sharding=layout)

    return {
      name: {p: saved(p, x) for p, x in item.items()} if name == REDUCE else item for name, item in wanted.items()
    }

  def _read(self, step: int, wanted: Mapping[str, Item]) -> dict[str, Item]:
    here = SingleDeviceSharding(jax.local_devices()[0])

    def target(x: Any) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here)

    return {name: self._load(step, name, jax.tree.map(target, item)) for name, item in wanted.items()}

  def _read_numpy(self, step: int, name: str) -> Item:
    arrays = manifest.read(self._path(step))["arrays"][name]
    return self._load(step, name, {path: _empty(text) for path, text in arrays.items()})

  def _load(self, step: int, name: str, target: Item) -> Item:
    # Alone: a process that reads weights does not wait for others, who may not want any.
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
      primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process_{this}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
      return reader.restore(self._path(step) / name, args=ocp.args.StandardRestore(target))

  def _finish(
    self, step: int, arrays: dict[str, dict[str, str]], files: Mapping[str, bytes], loss: float | None
  ) -> None:
    """In the background: after Orbax has committed, the files, the manifest, and the end of older steps."""
    try:
      self._saver.wait_until_finished()
      if processes.index():
        return
      path = self._path(step)
      (path / "files").mkdir()
      for name, data in files.items():
        (path / "files" / name).write_bytes(data)
      self._beforehand()
      manifest.write(path, arrays, {} if loss is None or not math.isfinite(loss) else {"loss": loss})
      self._forget(step)
    except Exception as error:
      self._error = error if processes.is_loss(error) else self._cannot_save(step, error)

  def _forget(self, step: int) -> None:
    """Removes all but those that stay, and those newer than this one: they are of a try that was given up."""
    good = [s for s in self.good_steps() if s <= step]
    kept = set(good[-self.keep :])
    if self.keep_every:
      kept |= {s for s in good if s % self.keep_every == 0}
    if self.keep_best:
      losses = {s: self.loss(s) for s in good}
      kept |= set(sorted((s for s in good if losses[s] is not None), key=losses.get)[: self.keep_best])
    for other in self._steps():
      if other not in kept:
        _remove(self._path(other))

  def _room_for(self, step: int, items: Mapping[str, Item]) -> None:
    """Makes room. Raises StorageError where there is none."""
    try:
      self._make_room(step, items)
    except Exception as error:
      raise self._cannot_save(step, error) from error

  def _make_room(self, step: int, items: Mapping[str, Item]) -> None:
    """Removes what a killed save left behind, and this step of a try that was given up. OSError on a full disk."""
    if self._saver is None:
      self.directory.mkdir(parents=True, exist_ok=True)
      for path in places.inside(self.directory):
        torn = path.name.isdecimal() and manifest.read(path) is None
        if torn or ".orbax-checkpoint-tmp" in path.name:
          _remove(path)
    self._check_room(items)
    if self._path(step).exists():
      _remove(self._path(step))

  def _check_room(self, items: Mapping[str, Item]) -> None:
    """Raises OSError before anything is written where the disk can't hold it: Orbax fails late, and at length."""
    needed = sum(x.nbytes for item in items.values() for x in item.values())
    if places.in_bucket(self.directory):
      return
    free = shutil.disk_usage(self.directory).free
    if free < needed:
      raise OSError(errno.ENOSPC, f"no space left on device: {free:,} bytes free, {needed:,} wanted")

  def _cannot_save(self, step: int, error: Exception) -> StorageError:
    good = []
    if self._saver is not None:
      # It would raise this save's errors again at the next one.
      with contextlib.suppress(Exception):
        self._saver.close()
      self._saver = None
    with contextlib.suppress(OSError):
      for path in places.inside(self.directory) if processes.index() == 0 else ():
        if path.name == str(step) or path.name.startswith(f"{step}.orbax-checkpoint-tmp"):
          _remove(path)
    with contextlib.suppress(OSError):
      good = self.good_steps()
    kept = f"checkpoint {good[-1]} is still good" if good else "no earlier one can be read"
    return StorageError(f"cannot save checkpoint {step} in {self.directory} ({_reason(error)}); {kept}")


def digest(item: Mapping[str, Any]) -> str:
  """SHA-256 of arrays by path: their paths, dtypes, shapes and bits."""
  sha = hashlib.sha256()
  for path in sorted(item):
    array = np.asarray(item[path])
    sha.update(f"{path} {_text(array)}\n".encode())
    sha.update(np.ascontiguousarray(array).tobytes())
  return sha.hexdigest()


def _items(state: State) -> dict[str, Item]:
  counters = {name: getattr(state, name) for name in COUNTERS}
  items = {name: _flat(getattr(state, name)) for name in TREES} | {"counters": counters}
  return {name: item for name, item in items.items() if item}


def _rebuild(abstract: State, items: Mapping[str, Item]) -> State:
  def tree(name: str) -> Any:
    like = getattr(abstract, name)
    return jax.tree.unflatten(jax.tree.structure(like), [items[name][path] for path in _flat(like)])

  return State(**{name: tree(name) for name in TREES}, **items["counters"])


def _shared(found: dict[str, Item], wanted: Mapping[str, Item]) -> dict[str, Item]:
  """What was read, with the mean of what replicas have left given to each, where they are of another number."""

  def share(x: Any, like: Any) -> Any:
    if x.shape == like.shape:
      return x
    mean = lambda x: jax.numpy.broadcast_to(x.mean(axis=0, keepdims=True), like.shape)  # noqa: E731
    return jax.jit(mean, out_shardings=like.sharding)(x)

  of_powersgd = {path: share(x, wanted[REDUCE][path]) for path, x in found.get(REDUCE, {}).items()}
  return found | ({REDUCE: of_powersgd} if of_powersgd else {})


def _flat(tree: Any) -> Item:
  return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _text(x: Any) -> str:
  return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def _empty(text: str) -> np.ndarray:
  dtype, shape = text.rstrip("]").split("[")
  return np.empty([int(n) for n in shape.split(",") if n], jax.numpy.dtype(dtype))


def _remove(path: Place) -> None:
  """Removes a step; its manifest goes first, so that what a kill leaves is not taken for a good one."""
  (path / manifest.NAME).unlink(missing_ok=True)
  places.remove(path)


def _quiet_orbax() -> None:
  """Drops what Orbax logs: each error it logs, with a traceback for every array, is raised to us as well."""
  logger = logging.getLogger("absl")
  if _not_from_orbax not in logger.filters:
    logger.addFilter(_not_from_orbax)


def _not_from_orbax(record: logging.LogRecord) -> bool:
  return "orbax" not in Path(record.pathname).parts


def _reason(error: Exception) -> str:
  text = " ".join(str(error).split())
  for words in ("No space left on device", "File too large", "Permission denied", "Read-only file system"):
    if words.lower() in text.lower():
      return words.lower()
  return text[:100] or type(error).__name__
