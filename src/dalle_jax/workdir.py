"""A run's directory: the experiment and the tokenizer it belongs to, its stages' weights, what ran and how long.

WORKDIR/experiment.json   tokenizer.model   times.jsonl   codes/
WORKDIR/STAGE/checkpoints/STEP/   metrics.jsonl   tensorboard/   pictures/

A workdir in a bucket, gs://BUCKET/NAME, has its checkpoints there, and of the rest a copy on this machine.
"""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from dalle_jax import config, places, processes, sharding
from dalle_jax.convert import stored
from dalle_jax.data.captions import Tokenizer
from dalle_jax.data.scratch import FULL
from dalle_jax.errors import StorageError, UserError
from dalle_jax.experiment import Experiment, Stage, differences
from dalle_jax.mirror import CHECKPOINTS, Mirror
from dalle_jax.places import Place
from dalle_jax.sharding import Rules
from dalle_jax.training.checkpoint import Checkpoints

# Fields that change where or how fast a run goes, not what it computes: a workdir may be continued with others.
FREE = ("data", "mesh.", "rules.", "workers")
TOKENIZER = "tokenizer.model"
# What of a workdir in a bucket is copied only where it is asked for.
BIG = (
  "codes",
  "xla_cache",
  "tensorboard",
  "pictures",
  "profile",
  "samples",
  "scores",
  "probes",
  "raven",
  "page",
  "metrics",
)
FREE_OF_A_STAGE = (".save_every", ".keep", ".keep_every", ".keep_best", ".log_every", ".show_every")


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Reads and writes the files of one run: at `path`, which is a copy where there is a mirror."""

  path: Path
  mirror: Mirror | None = None

  @classmethod
  def at(cls, path: str | Place, use: str = "read") -> "Workdir":
    """The workdir of that name, of which nothing is read yet. Raises UserError where the name can't be one."""
    place = places.at(path)
    if not places.in_bucket(place):
      return cls(place)
    mirror = Mirror(place, use)
    return cls(mirror.local, mirror)

  @classmethod
  def open(cls, path: str | Place) -> "Workdir":
    """The workdir of a run that was begun. Raises UserError when there is none."""
    workdir = cls.at(path)
    if workdir.mirror:
      workdir.mirror.pull(lambda name: not any(folder in BIG for folder in name.split("/")[:-1]))
    if not workdir._experiment_file.is_file():
      raise UserError(
        f"{path} is not a workdir: it holds no experiment.json; `dalle train EXPERIMENT --workdir {path}`"
      )
    return workdir

  @classmethod
  def claim(cls, path: str | Place, experiment: Experiment) -> "Workdir":
    """The workdir for this experiment, new or begun.

    Raises UserError when it belongs to another one or can't be written, StorageError when the disk is full.
    """
    workdir = cls.at(path, use="run")
    if workdir.mirror:
      workdir.mirror.pull()
    new = config.to_dict(experiment)
    with workdir._writing():
      begun = workdir._experiment_file.is_file()
      # Read as what it says today: fields that came since it was begun have their defaults.
      old = config.to_dict(workdir.experiment()) if begun else new
    changed = [line for line in differences(old, new) if not _free(line)]
    if changed:
      more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
      raise UserError(f"{path} holds another experiment ({changed[0]}{more}): take another --workdir")
    with workdir._writing():
      workdir.path.mkdir(parents=True, exist_ok=True)
      places.write(workdir._experiment_file, json.dumps(new, indent=2).encode() + b"\n")
    return workdir

  def __str__(self) -> str:
    return str(self.place)

  @property
  def place(self) -> Place:
    """Where it is: what a person calls it."""
    return self.mirror.place if self.mirror else self.path

  def keep(self) -> None:
    """Copies what changed to the bucket that this is the copy of. Raises StorageError when it can't be written."""
    if self.mirror:
      self.mirror.push()

  @contextmanager
  def kept(self) -> Iterator[None]:
    """Does so at the end of the block; where the block raises, that is what is told."""
    try:
      yield
    except BaseException:
      with contextlib.suppress(StorageError):
        self.keep()
      raise
    self.keep()

  def fetch(self, folder: str) -> None:
    """Copies a folder from the bucket. Raises UserError when it can't be read."""
    if self.mirror:
      self.mirror.pull(lambda name: name.startswith(f"{folder}/"))

  @property
  def _experiment_file(self) -> Path:
    return self.path / "experiment.json"

  @property
  def tokenizer_file(self) -> Path:
    return self.path / TOKENIZER

  @property
  def codes(self) -> Path:
    return self.path / "codes"

  def experiment(self) -> Experiment:
    """The resolved experiment of this run."""
    try:
      return config.from_dict(Experiment, json.loads(self._experiment_file.read_text()))
    except json.JSONDecodeError as error:
      raise UserError(f"{self._experiment_file} is damaged: {error}; it is written anew by `dalle train`") from error

  def tokenizer(self) -> Tokenizer:
    """The tokenizer this run trained. Raises UserError when it has none yet."""
    if not self.tokenizer_file.is_file():
      raise UserError(f"{self} has no tokenizer.model yet: its training has not begun")
    return Tokenizer(self.tokenizer_file.read_bytes(), self.experiment().tokenizer)

  def keep_tokenizer(self, model: bytes) -> None:
    """Writes the tokenizer this run has trained. Raises as `claim` does when it can't be written."""
    with self._writing():
      places.write(self.tokenizer_file, model)

  def store(self, stage: str) -> Place:
    """The directory of a stage's checkpoints."""
    return self.place / stage / CHECKPOINTS

  def checkpoints(self, stage: str) -> Checkpoints:
    """The checkpoints of a stage."""
    return Checkpoints(self.store(stage), keep=self.experiment().stage(stage).keep)

  def step(self, name: str) -> int:
    """The newest good step of a stage; 0 before it has saved any."""
    return (Checkpoints(self.store(name)).good_steps() or [0])[-1]

  def weights(self, name: str, like: Any = None) -> tuple[Any, str]:
    """The newest good weights of a stage (their moving average where there is one), and their digest.

    like: parameters of the shapes and the layout wanted; those of this run's own experiment if None. Raises UserError
    when the stage has saved none, or naming the first arrays that are of other shapes.
    """
    stage = self.experiment().stage(name)
    if like is None:
      like = _abstract_params(stage)
    if stage.frozen:
      return taken(name, stage, like)
    checkpoints = self.checkpoints(name)
    step = checkpoints.newest()
    if step is None:
      raise UserError(f"{self} has no weights of stage {name} yet: run `dalle train` on it first")
    return checkpoints.restore_params(like, step=step), checkpoints.digest(step)

  def check_tokenizer(self, name: str, words: bytes | None = None) -> None:
    """Raises UserError where a stage was trained with another tokenizer than this run's file, or `words`."""
    stage = self.experiment().stage(name)
    words = self.tokenizer_file.read_bytes() if words is None and self.tokenizer_file.is_file() else words
    if stage.frozen and stored.is_at(stage.from_, name):
      kept, file = stored.read(stage.from_, name).tokenizer(), places.at(stage.from_) / TOKENIZER
    elif stage.frozen:
      Workdir.open(stage.from_).check_tokenizer(name, words)
      return
    else:
      checkpoints = self.checkpoints(name)
      step = checkpoints.newest()
      kept, file = checkpoints.files(step).get(TOKENIZER), checkpoints.directory / str(step) / "files" / TOKENIZER
    if kept is not None and words is not None and kept != words:
      own, other = (hashlib.sha256(each).hexdigest()[:12] for each in (kept, words))
      raise UserError(
        f"stage {name} was trained with the tokenizer {own}, and {TOKENIZER} is {other}: its numbers would mean other "
        f"words; put back {file}"
      )

  @contextmanager
  def timed(self, what: str) -> Iterator[None]:
    """Appends {what, seconds} to times.jsonl when the block is done, or stopped by anything but SIGKILL."""
    begin = time.monotonic()
    try:
      yield
    except BaseException:
      with contextlib.suppress(OSError):  # what stopped the block is said, not that its time can't be written
        self._append_time(what, begin)
      raise
    with self._writing():
      self._append_time(what, begin)

  def _append_time(self, what: str, begin: float) -> None:
    if processes.index():
      return
    with (self.path / "times.jsonl").open("a") as file:
      file.write(json.dumps({"what": what, "seconds": round(time.monotonic() - begin, 1)}) + "\n")

  def times(self) -> list[tuple[str, float]]:
    """What ran and how many seconds it took altogether, in the order of the first time."""
    file = self.path / "times.jsonl"
    seconds: dict[str, float] = {}
    for line in file.read_text().splitlines() if file.is_file() else []:
      row = json.loads(line)
      seconds[row["what"]] = seconds.get(row["what"], 0) + row["seconds"]
    return list(seconds.items())

  @contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      said = f"cannot write to the workdir {self}: {error.strerror}"
      raise (StorageError if error.errno in FULL else UserError)(said) from error


def taken(name: str, stage: Stage, like: Any) -> tuple[Any, str]:
  """The weights that a stage names by `from`, as `like` is laid out, and their digest.

  Of a run's stage of the same name; or those that `dalle convert` or `dalle checkpoint export` wrote into a directory.
  Raises UserError where there are none, or naming the arrays, or of a frozen stage the field, in which they differ.
  """
  if not stored.is_at(stage.from_, name):
    return Workdir.open(stage.from_).weights(name, like)
  found = stored.read(stage.from_, name)
  params = found.laid(like)
  if stage.frozen:
    found.check_model(stage.objective.model)
  return params, found.digest


def check_taken(name: str, stage: Stage) -> None:
  """Raises UserError for what can be known beforehand of a stage that names others' weights."""
  if stored.is_at(stage.from_, name):
    taken(name, stage, _abstract_params(stage))
  else:
    Workdir.open(stage.from_).experiment().stage(name)


def _free(line: str) -> bool:
  field = line.split(":", 1)[0]
  return field.startswith(FREE) or field.endswith(FREE_OF_A_STAGE)


def _abstract_params(stage: Stage) -> Any:
  return sharding.unbox(jax.eval_shape(stage.objective.init, jax.random.key(0)))


def laid_out(stage: Stage, mesh: Mesh, rules: Rules) -> Any:
  """A stage's parameters as shapes that lie on the mesh by these rules. Raises UserError where they do not divide."""
  boxed = jax.eval_shape(stage.objective.init, jax.random.key(0))

  def shape(x: Any, layout: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout)

  return jax.tree.map(shape, sharding.unbox(boxed), sharding.shardings(boxed, mesh, rules))
