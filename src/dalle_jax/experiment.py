"""An experiment: which data, which stages, in which order. What `experiments/*.py` return and `dalle train` runs.

Everything here is a frozen dataclass, so an experiment prints, diffs, hashes and takes overrides from the command line.
"""

import contextlib
import dataclasses
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import CentreCrop, Stage1Crop, Stage2Crop
from dalle_jax.errors import UserError
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.first_stage import FirstStage, FrozenVqgan
from dalle_jax.objectives.half_nll import HalfNll
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.objectives.vq import VqVae
from dalle_jax.sharding import MeshShape, Rules
from dalle_jax.training.adafactor import Adafactor
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.powersgd import PowerSGD

Objective = DvaeElbo | PatchDvae | VqVae | FrozenVqgan | TransformerNll | HalfNll | ClipContrastive
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
  """A stage reads pictures: pixels cropped anew each time they come up, with one of their captions or without.

  crops: None draws a fresh crop each time; N draws one of the N seeded crops that `Codes(crops=N)` encodes;
  near_misses: for CLIP, each caption also comes with a word exchanged (`data.near_misses`), among the negatives;
  drop_captions: for the transformer, how often a caption is taken away, so that guidance has what to compare with.
  """

  crop: Stage1Crop | Stage2Crop | CentreCrop
  captions: bool = False
  crops: int | None = None
  near_misses: bool = False
  drop_captions: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes:
  """A stage reads the dVAE's codes of `crops` numbered stage-2 crops of each picture, with one of its captions.

  dir: what `dalle data encode` wrote; None encodes into WORKDIR/codes before the stage begins; near_misses,
  drop_captions: as of Pictures; sampled: whether each crop's codes are drawn from what the dVAE gives every position,
  in place of the most likely ones.
  """

  crops: int = 1
  dir: str | None = None
  sampled: bool = False
  near_misses: bool = False
  drop_captions: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One training run.

  steps: updates; batch: examples an update, over all processes; accumulate: parts of the batch whose gradients are
  taken one after the other and averaged, for the memory of one; reduce: how gradients are averaged over `data`, None
  leaves it to the compiler; save_every, log_every, show_every: steps between
  checkpoints, lines of metrics, and pictures; keep, keep_every, keep_best: how many of the newest checkpoints stay,
  those at multiples of how many steps, and how many of the lowest loss (the mean since the checkpoint before,
  where that is of half of `save_every` updates or more).
  `from DIR` takes the stage of the same name of the run in that workdir, or the weights that `dalle convert` or `dalle
  checkpoint export` wrote there: as the start of this one, or, with `frozen`, in place of it.
  """

  steps: int
  batch: int
  objective: Objective
  optimizer: AdamW | Muon | Adafactor
  examples: Pictures | Codes
  accumulate: int = 1
  reduce: PowerSGD | None = None
  save_every: int = 1000
  keep: int = 3
  keep_every: int | None = None
  keep_best: int = 0
  log_every: int = 50
  show_every: int = 1000
  from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
  frozen: bool = False

  def __post_init__(self) -> None:
    if self.steps < 1 or self.batch < 1:
      raise UserError(f"steps is {self.steps} and batch is {self.batch}: each must be at least 1")
    for name in ("accumulate", "save_every", "keep", "log_every", "show_every"):
      if getattr(self, name) < 1:
        raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1")
    if self.keep_best < 0 or (self.keep_every is not None and self.keep_every < 1):
      raise UserError(
        f"got keep_best {self.keep_best} and keep_every {self.keep_every}, wanted 0 or more and 1 or more (or None)"
      )
    if self.batch % self.accumulate:
      raise UserError(f"a batch of {self.batch} can't be taken in {self.accumulate} parts: change batch or accumulate")
    if self.accumulate > 1 and (why := _not_a_mean(self.objective)):
      raise UserError(f"accumulate is {self.accumulate}, but {why}: set accumulate to 1")
    if self.reduce is not None and not isinstance(self.objective, TransformerNll):
      raise UserError("reduce is PowerSGD, which compresses a transformer's gradients alone: set it to None")
    if self.reduce is not None and (why := _not_a_mean(self.objective)):
      raise UserError(f"reduce is PowerSGD, which averages what replicas make of their own examples, but {why}")
    if self.frozen and self.from_ is None:
      raise UserError("frozen is set but `from` is not: name the directory whose weights are to be taken as they are")


def _not_a_mean(objective: Objective) -> str:
  """Why the objective's loss over a batch is not the mean of those over its parts; empty where it is."""
  if isinstance(objective, ClipContrastive):
    return "CLIP compares every picture and caption of the batch with all others"
  if isinstance(objective, HalfNll):
    return "the scales of gradients in few bits move on once a batch"
  if isinstance(objective, TransformerNll) and not objective.pad_targets:
    return "without pad_targets the text's loss is a mean over tokens, of which parts have different numbers"
  return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """Stages in the order they run, over one prepared data set.

  data: the directory `dalle data prepare` wrote; workers: data-loading processes (0: threads of this one).
  """

  name: str
  data: str
  tokenizer: TokenizerConfig
  stages: dict[str, Stage]
  seed: int = 0
  mesh: MeshShape = MeshShape()
  rules: Rules = Rules()
  workers: int = 0

  def __post_init__(self) -> None:
    if self.workers < 0:
      raise UserError(f"got workers {self.workers}, wanted 0 or more data-loading processes")
    check(self)

  def stage(self, name: str) -> Stage:
    """The stage of that name. Raises UserError naming those there are."""
    if name not in self.stages:
      raise UserError(f"{self.name} has no stage {name!r}; it has {', '.join(self.stages)}")
    return self.stages[name]


def dvae_stage(experiment: Experiment) -> str | None:
  """The name of the stage whose codes the others read, a dVAE or a VQGAN; or None."""
  return next((name for name, stage in experiment.stages.items() if isinstance(stage.objective, FirstStage)), None)


def check(experiment: Experiment) -> None:
  """Raises UserError where two stages, or a stage and the tokenizer, do not fit together."""
  words, name_of_dvae = experiment.tokenizer, dvae_stage(experiment)
  dvae = experiment.stages[name_of_dvae].objective.model if name_of_dvae else None
  for name, stage in experiment.stages.items():
    model = stage.objective.model
    if isinstance(stage.objective, FrozenVqgan) and not stage.frozen:
      raise UserError(
        f"stage {name} is a VQGAN, which is used here and not trained: name converted weights, "
        f"--stages.{name}.from DIR --stages.{name}.frozen True (`dalle convert FILE --out DIR` makes them)"
      )
    if not isinstance(stage.objective, FirstStage) and (model.text_vocab, model.text) != (words.vocab, words.length):
      raise UserError(
        f"stage {name} reads {model.text} text tokens of {model.text_vocab}, "
        f"the tokenizer makes {words.length} of {words.vocab}: make them equal"
      )
    image_tokens = (model.image_vocab, model.grid) if isinstance(stage.objective, TransformerNll) else None
    if image_tokens and dvae and image_tokens != (dvae.vocab, dvae.grid):
      raise UserError(
        f"stage {name} models {model.grid}x{model.grid} image tokens of {model.image_vocab}, "
        f"the dVAE makes {dvae.grid}x{dvae.grid} of {dvae.vocab}: make them equal"
      )
    _check_examples(name, stage, experiment.stages[name_of_dvae].objective if name_of_dvae else None)


def check_drawn(who: str, first: FirstStage) -> None:
  """Raises UserError, beginning with who asks, where a first stage has no probabilities that codes are drawn by."""
  if not isinstance(first, DvaeElbo):
    kind = type(first).__name__
    raise UserError(
      f"{who} wants codes drawn, and {kind} gives them no probabilities as DvaeElbo does: set sampled False"
    )


def _check_examples(name: str, stage: Stage, first: FirstStage | None) -> None:
  dvae = first.model if first else None
  own = None if isinstance(stage.objective, FirstStage) else stage.objective.dvae
  if stage.examples.near_misses and not isinstance(stage.objective, ClipContrastive):
    raise UserError(
      f"stage {name} has near_misses, which only CLIP has a use for: set its examples.near_misses to False"
    )
  if not 0 <= stage.examples.drop_captions < 1:
    raise UserError(f"stage {name} has drop_captions {stage.examples.drop_captions}, wanted 0 or more and less than 1")
  if stage.examples.drop_captions and not isinstance(stage.objective, TransformerNll):
    raise UserError(f"stage {name} has drop_captions, which only a transformer has a use for: set it to 0")
  if (own is not None or isinstance(stage.examples, Codes)) and dvae is None:
    raise UserError(f"stage {name} needs a dVAE's codes, the experiment has no dVAE stage: add one, or one with `from`")
  if own is not None and own != dvae:
    raise UserError(f"stage {name} names another dVAE than the one that is trained: make its objective.dvae equal")
  if isinstance(stage.examples, Codes):
    if isinstance(stage.objective, FirstStage):
      raise UserError(f"stage {name} trains a dVAE: it reads Pictures, not Codes")
    if stage.examples.sampled:
      check_drawn(f"stage {name}", first)
    if isinstance(stage.objective, ClipContrastive) == (own is None):
      raise UserError(f"stage {name} reads Codes: a transformer's objective.dvae must be None, CLIP's the dVAE")
    return
  wanted = (own or stage.objective.model).image if own or hasattr(stage.objective.model, "image") else None
  if wanted is None or (isinstance(stage.objective, ClipContrastive) and own):
    raise UserError(f"stage {name} reads Pictures: a transformer's objective.dvae must be the dVAE, CLIP's None")
  if stage.examples.crop.size != wanted:
    raise UserError(
      f"stage {name} crops to {stage.examples.crop.size} pixels, its model wants {wanted}: make them equal"
    )
  if not isinstance(stage.objective, FirstStage) and not stage.examples.captions:
    raise UserError(f"stage {name} needs captions: set its examples.captions")


def load(path: str | Path, choose: Callable[[inspect.Signature], Mapping[str, Any]] | None = None) -> Experiment:
  """The experiment that the file's `experiment()` returns.

  choose: given the function's signature, the arguments to call it with; all must have defaults. Raises UserError in one
  line, with the file's own line number, when the file is missing or has an error in it.
  """
  return made_by(Path(path), Experiment, choose)


def made_by(
  path: Path,
  kind: type[T],
  choose: Callable[[inspect.Signature], Mapping[str, Any]] | None = None,
  also: tuple[Path, ...] = (),
) -> T:
  """What the function of a file that is named as its kind, experiment() of an Experiment, returns.

  choose: as of `load`; also: directories that the file imports from, beside its own. Raises UserError as `load` does.
  """
  name, a = kind.__name__.lower(), f"a{'n' * (kind is Experiment)} {kind.__name__}"
  if not path.is_file():
    raise UserError(f"no {name} file {path}; the ones that come with the project are in experiments/")
  if path.suffix != ".py":
    raise UserError(f"{path} is not a Python file: {a.lower()} is a .py file with a function {name}()")
  places = [str(each.resolve()) for each in (path.parent, *also)]
  sys.path[:0] = places
  try:
    with _told_where(path):
      make = _execute(path).get(name)
    if not callable(make):
      raise UserError(f"{path} defines no {name}(): it must return a {kind.__module__}.{kind.__name__}")
    arguments = choose(inspect.signature(make)) if choose else {}
    with _told_where(path):
      result = make(**arguments)
  finally:
    for each in places:
      sys.path.remove(each)
  if not isinstance(result, kind):
    raise UserError(f"{path}: {name}() returned a {type(result).__name__}, {a} is wanted")
  return result


def _execute(path: Path) -> dict[str, Any]:
  spec = importlib.util.spec_from_file_location(f"dalle_experiment_{re.sub('[^0-9a-zA-Z_]', '_', path.stem)}", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return vars(module)


@contextlib.contextmanager
def _told_where(path: Path) -> Iterator[None]:
  """Within it, an error becomes a UserError that begins with the file's own line."""
  try:
    yield
  except (Exception, SystemExit) as error:
    said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    raise UserError(f"{_where(error, path)}: {said}") from error


def _where(error: BaseException, path: Path) -> str:
  """The file, and the last of its lines that led to the error."""
  if isinstance(error, SyntaxError):
    own = error.filename is None or Path(error.filename) == path.absolute()
    return f"{path if own else error.filename}:{error.lineno}"
  trace, line = error.__traceback__, None
  while trace:
    if Path(trace.tb_frame.f_code.co_filename) == path.absolute():
      line = trace.tb_lineno
    trace = trace.tb_next
  return f"{path}:{line}" if line else str(path)


def differences(old: Mapping, new: Mapping) -> list[str]:
  """The dotted fields in which two experiments' JSON differ, as `path: old -> new`."""
  found = []
  for key in [*old, *(k for k in new if k not in old)]:
    a, b = old.get(key), new.get(key)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      found += [f"{key}.{line}" for line in differences(a, b)]
    elif a != b:
      found.append(f"{key}: {a} -> {b}")
  return found
