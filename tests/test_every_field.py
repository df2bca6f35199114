"""No field is for nothing: another value of any leaf of an experiment changes something that can be seen.

Each experiment is shrunk first, so that a step is traced in a moment; what is shrunk is sizes, never structure. TABLE
says for every leaf which other value to take and where the change must show. A leaf without an entry fails by name.
"""

import dataclasses
import functools
import hashlib
import io
import re
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle_jax import config, evaluate, golden, run, sharding, showing
from dalle_jax.data.images import CentreCrop, Stage2Crop
from dalle_jax.data.prepare import prepare
from dalle_jax.data.source import Raw
from dalle_jax.errors import TrainingUnhealthy, UserError
from dalle_jax.evaluation.report import Protocol, Report
from dalle_jax.experiment import Codes, dvae_stage
from dalle_jax.models import dvae, transformer
from dalle_jax.models.likelihoods import Laplace
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo, DvaeObjective
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.schedules import Constant, Linear
from dalle_jax.training import metrics
from dalle_jax.training.loop import train as real_train
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.powersgd import PowerSGD
from dalle_jax.training.step import abstract_state, make_step
from dalle_jax.workdir import Workdir

replace = dataclasses.replace
ROOT = Path(__file__).parents[1] / "experiments"
# Experiments, the arguments they are resolved with, and which of their leaves are looked at: `pictures` has all but the
# published dVAE from the demo. Of the others, those that the demo does not set to the same.
NAMES = {"demo": {}, "pictures": {"size": "s"}, "dalle_12b": {}}
LOOKED_AT = {"demo": "", "pictures": "stages.dvae.objective.", "dalle_12b": ""}


# The tiny experiment.


def tiny(name, data="data"):
  """The experiment in small: the same stages, objectives, optimizers and schedules."""
  whole = golden.resolved(name, ROOT, **NAMES[name])
  vae = next(stage.objective.model for stage in whole.stages.values() if isinstance(stage.objective, DvaeObjective))
  vae = replace(vae, image=16, vocab=32, hidden=8, groups=3, blocks=1, code_dim=4)
  stages = {each: _tiny_stage(stage, vae) for each, stage in whole.stages.items()}
  words = replace(whole.tokenizer, vocab=300, length=8)
  return replace(whole, data=str(data), tokenizer=words, stages=stages, mesh=sharding.MeshShape(), workers=0)


def _tiny_stage(stage, vae):
  objective, examples = stage.objective, stage.examples
  if isinstance(objective, DvaeObjective):
    few = {"patches_from": 6} if isinstance(objective, PatchDvae) else {}
    objective = replace(objective, model=vae, **few)
  else:
    objective = replace(objective, model=_tiny_model(objective.model), dvae=objective.dvae and vae)
  examples = (
    replace(examples, dir=None)
    if isinstance(examples, Codes)
    else replace(examples, crop=replace(examples.crop, size=16))
  )
  sizes = {"steps": 6, "batch": 8, "save_every": 3, "keep": 3, "log_every": 2, "show_every": 3}
  optimizer = replace(stage.optimizer, max_skipped=3)
  return replace(stage, objective=objective, examples=examples, optimizer=optimizer, from_=None, frozen=False, **sizes)


def _tiny_model(model):
  if isinstance(model, transformer.Config):
    known = model.attention if model.attention in ("auto", "reference", "xla") else "auto"
    sizes = {"text_vocab": 300, "text": 8, "image_vocab": 32, "grid": 4, "heads": 2, "head_dim": 4}
    return replace(model, layers=2 * len(model.mix) + 1, attention=known, **sizes)  # two periods are looped over
  sizes = {"image": 16, "patch": 8, "text_vocab": 300, "text": 8, "embed": 8}
  towers = {
    f"{side}_{what}": size for side in ("vision", "text") for what, size in (("layers", 2), ("width", 8), ("heads", 2))
  }
  return replace(model, **sizes, **towers)


def get(value, path):
  for key in path.split("."):
    value = value[key] if isinstance(value, dict) else getattr(value, key if hasattr(value, key) else f"{key}_")
  return value


def put(value, path, new):
  """The value with the leaf at a dotted path replaced."""
  key, _, rest = path.partition(".")
  if isinstance(value, dict):
    return value | {key: put(value[key], rest, new) if rest else new}
  field = key if hasattr(value, key) else f"{key}_"
  return replace(value, **{field: put(getattr(value, field), rest, new) if rest else new})


# Where a change shows.


@dataclasses.dataclass(frozen=True)
class World:
  """What the observations need: data, a second data set, a place to write, and pytest's patches."""

  data: Path
  other_data: Path
  room: Path
  patch: pytest.MonkeyPatch

  def workdir(self):
    return self.room / f"w{len(list(self.room.iterdir()))}"


ONE, FOUR, EIGHT = slice(0, 1), slice(0, 4), slice(0, 8)


def lowered(whole, stage, devices=ONE, mesh=None):
  """The text of the stage's train step as it goes to the compiler."""
  mesh = sharding.make_mesh(mesh or sharding.MeshShape(), jax.devices()[devices])
  return _lowered(stage, mesh, whole.rules, whole.seed, whole.tokenizer.length)


@functools.lru_cache(maxsize=64)
def _lowered(stage, mesh, rules, seed, length):
  objective = stage.objective
  state = abstract_state(objective, stage.optimizer, mesh=mesh, rules=rules, reduce=stage.reduce)
  frozen, own = {}, None if isinstance(objective, DvaeObjective) else objective.dvae
  if own is not None:
    vae = DvaeElbo(model=own, kl=Constant(0.0), temperature=Constant(1.0))
    frozen = {"dvae": sharding.unbox(jax.eval_shape(vae.init, jax.random.key(0)))}
  batch = {}
  if isinstance(stage.examples, Codes):
    grid = (own or objective.model).grid
    batch["codes"] = jax.ShapeDtypeStruct((stage.batch, grid**2), jnp.uint16)
  else:
    side = stage.examples.crop.size
    batch["image"] = jax.ShapeDtypeStruct((stage.batch, side, side, 3), jnp.uint8)
  if not isinstance(objective, DvaeObjective):
    batch["text"] = jax.ShapeDtypeStruct((stage.batch, objective.model.text), jnp.int32)
  options = {"mesh": mesh, "rules": rules, "accumulate": stage.accumulate, "reduce": stage.reduce}
  return make_step(objective, stage.optimizer, seed=seed, **options).lower(state, frozen, batch).as_text()


@dataclasses.dataclass(frozen=True)
class Toy:
  """A matrix that is trained to nothing: what stands in for a model where only the loop is looked at."""

  def init(self, key):
    kernel = sharding.axes(jax.nn.initializers.normal(1.0), "embed", "mlp")(key, (2, 4))
    bias = sharding.axes(jax.nn.initializers.ones, "mlp")(key, (4,))
    table = {"embedding": kernel}
    return {"kernel": kernel, "bias": bias, "up": {"kernel": kernel}, "token": table}  # "up" is a matrix to Muon

  def loss(self, params, frozen, batch, key, step):
    loss = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)) + jnp.mean(batch["x"])
    return loss, {"loss": loss}


def update(optimizer):
  """The text of a step whose model is a toy: what the optimizer makes of a gradient."""
  mesh, rules = sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1]), sharding.Rules()
  state = abstract_state(Toy(), optimizer, mesh=mesh, rules=rules)
  batch = {"x": jax.ShapeDtypeStruct((8,), jnp.float32)}
  return make_step(Toy(), optimizer, seed=0, mesh=mesh, rules=rules).lower(state, {}, batch).as_text()


def digest(arrays):
  found = hashlib.sha256()
  for path, x in jax.tree_util.tree_leaves_with_path(arrays):
    found.update(f"{path} {x.dtype} {x.shape}".encode() + np.asarray(x).tobytes())
  return found.hexdigest()


@functools.lru_cache(maxsize=8)
def vae_params(model, seed=0):
  objective = DvaeElbo(model=model, kl=Constant(0.0), temperature=Constant(1.0))
  return jax.jit(lambda key: sharding.unbox(objective.init(key)))(jax.random.key(seed))


def trained_but(whole, name):
  """In place of `Workdir.step`: every stage was trained to its end but `name`, which has not begun."""
  return lambda self, stage: 0 if stage == name else whole.stages[stage].steps


def asked(world, whole, name):
  """What `run.run` asks the loop for, and the workdir; weights are random ones, and another run's ones."""
  model = whole.stages[dvae_stage(whole)].objective.model
  calls = {}
  path = world.workdir()

  def weights(self, stage, like=None):
    return (vae_params(model) if self.path == path else {"theirs": np.ones(3)}), "d" * 64

  world.patch.setattr(Workdir, "weights", weights)
  world.patch.setattr(Workdir, "step", trained_but(whole, name))
  world.patch.setattr(run, "train", lambda **kw: calls.update(kw))
  run.run(whole, path, only=name)
  return calls, path


def first_batch(world, whole, name):
  """The digest of what the stage's first step reads."""
  calls, _ = asked(world, whole, name)
  return digest(next(calls["batches"](0)))


def first_params(world, whole, name):
  """The digest of what the stage starts with, where that is not random; whether it runs at all."""
  calls, _ = asked(world, whole, name)
  start, objective = calls.get("start"), whole.stages[name].objective
  random = vae_params(objective.model) if isinstance(objective, DvaeObjective) else {}
  return digest(start(random)) if start else bool(calls)


def processes(world, whole, name):
  """How many processes read the data."""
  started = []
  with world.patch.context() as patch:
    patch.setattr(grain.IterDataset, "mp_prefetch", lambda self, o, **kw: started.append(o.num_workers) or self)
    first_batch(world, whole, name)
  return started


def written(world, whole, name, value=1.0):
  """Names of the files that a stage leaves, and the steps of its rows, with a toy in place of the model."""
  model = whole.stages[dvae_stage(whole)].objective.model
  picture = np.zeros((4, 4, 3), np.uint8)

  def toy(**kw):
    shown = lambda step, params: {"shown": 1.0, "shown_too": picture}  # noqa: E731
    hooks = [replace(hook, fn=shown) for hook in kw["hooks"]]
    batches = lambda first: iter(lambda: {"x": np.full(8, value, np.float32)}, None)  # noqa: E731
    mesh = sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1])
    stand_in = {"objective": Toy(), "optimizer": kw["optimizer"], "frozen": {}, "start": None}
    return real_train(**kw | stand_in | {"hooks": hooks, "batches": batches, "mesh": mesh})

  path = world.workdir()
  with world.patch.context() as patch:
    patch.setattr(Workdir, "weights", lambda self, stage, like=None: (vae_params(model), "d" * 64))
    patch.setattr(Workdir, "step", trained_but(whole, name))
    patch.setattr(run, "train", toy)
    for hook in ("_reconstructions", "_drawings", "_retrieval"):
      patch.setattr(showing, hook, lambda *args: lambda step, params: None)
    try:
      run.run(whole, path, only=name)
      stopped = None
    except TrainingUnhealthy as error:
      stopped = str(error)
  steps = [row["step"] for row in metrics.read(path / name / "metrics.jsonl")]
  files = {str(file.relative_to(path)) for file in path.glob("*/*") if "tensorboard" not in file.parts}
  files |= {str(file.relative_to(path)) for file in path.glob("*/checkpoints/*")}
  files |= {str(file.relative_to(path)) for file in path.glob("*/pictures/*")}
  return sorted(files), steps, stopped


def title(world, whole):
  """What the run's page is called."""
  workdir, said = Workdir.claim(world.workdir(), whole), []
  with world.patch.context() as patch:
    patch.setattr(evaluate.page, "write", lambda *args, title, **kw: said.append(title) or workdir.path)
    protocol = Protocol(captions=1, samples=1, sampling=SamplingConfig())
    evaluate.write_page(workdir, Report(split="test", protocol=protocol, losses={}))
  return said


# The kinds of entries of the table. Each is called with the world, the tiny experiment, the path and the other value.


def step(world, whole, path, new):
  """The lowered step of the stage is another one."""
  name, _, rest = path.removeprefix("stages.").partition(".")
  stage = whole.stages[name]
  return lowered(whole, stage), lowered(whole, put(stage, rest, new))


def in_parts(world, whole, path, new):
  """The step that `run.run` asks the loop for is taken in so many parts, and is another one."""
  name = path.split(".")[1]
  whole = put(whole, f"stages.{name}.batch", 16)  # twice the devices
  changed = put(whole, path, new)
  calls, _ = asked(world, changed, name)
  assert calls["accumulate"] == new
  return lowered(whole, whole.stages[name]), lowered(changed, changed.stages[name])


def optimizer(world, whole, path, new):
  """The lowered update is another one."""
  name, _, rest = path.removeprefix("stages.").partition(".")
  own = whole.stages[name].optimizer
  changed = new if rest == "optimizer" else put(own, rest.removeprefix("optimizer."), new)
  return update(own), update(changed)


def everywhere(*suffixes):
  """Batches differ; the fields of the same meaning elsewhere change with this one."""

  def observe(world, whole, path, new):
    changed, name = whole, _reads_text(whole)
    for leaf, _ in config.leaves(whole):
      if leaf != path and leaf.endswith(suffixes):
        changed = _unchecked(changed, leaf, new)
    return first_batch(world, whole, name), first_batch(world, put(changed, path, new), name)

  return observe


def batch(world, whole, path, new):
  """The first batch of the stage, or of one that reads captions, is another one."""
  name = path.split(".")[1] if path.startswith("stages.") else _reads_text(whole)
  return first_batch(world, whole, name), first_batch(world, put(whole, path, new), name)


def other_data(world, whole, path, new):
  """The first batch is of the other data set."""
  return batch(world, whole, path, str(world.other_data))


def crop_size(world, whole, path, new):
  """Alone it is refused; with the model's it makes other batches."""
  assert refused(world, whole, path, new)[1]
  name = path.split(".")[1]
  model = whole.stages[name].objective.dvae if not isinstance(whole.stages[name].objective, DvaeObjective) else None
  where = f"stages.{name}.objective.{'dvae' if model else 'model'}.image"
  changed = put(whole.stages[name], path.split(".", 2)[2], new)
  changed = put(changed, where.split(".", 2)[2], new)
  if isinstance(changed.objective.model, transformer.Config):
    changed = put(changed, "objective.model.grid", changed.objective.dvae.grid)
  return lowered(whole, whole.stages[name]), lowered(whole, changed)


def image(world, whole, path, new):
  """Alone it is refused, where the crop has another size; with the crop's it makes another step."""
  name = path.split(".")[1]
  assert refused(world, whole, path, new)[1]
  changed, objective = whole.stages[name], whole.stages[name].objective
  sizes = {"model": replace(objective.model, image=new)}
  if not isinstance(objective, DvaeObjective) and objective.dvae is not None:
    sizes["dvae"] = replace(objective.dvae, image=new)
  if not isinstance(changed.examples, Codes):
    changed = put(changed, "examples.crop.size", new)
  return lowered(whole, whole.stages[name]), lowered(whole, replace(changed, objective=replace(objective, **sizes)))


def files(world, whole, path, new):
  """The stage leaves other files, or rows."""
  name = path.split(".")[1]
  return written(world, whole, name), written(world, put(whole, path, new), name)


def health(world, whole, path, new):
  """The loop gives up after another number of updates that are not finite."""
  name = path.split(".")[1]
  return written(world, whole, name, np.nan), written(world, put(whole, path, new), name, np.nan)


def start(world, whole, path, new):
  """The stage begins with other parameters."""
  name = path.split(".")[1]
  return first_params(world, whole, name), first_params(world, put(whole, path, new), name)


def donated(world, whole, path, new):
  """The stage begins with another run's parameters."""
  name = path.split(".")[1]
  donor = Workdir.claim(world.workdir(), whole)
  changed = put(whole, path, str(donor.path))
  assert first_params(world, changed, name) == digest({"theirs": np.ones(3)})
  return first_params(world, whole, name), first_params(world, changed, name)


def frozen(world, whole, path, new):
  """With another run's stage at hand, this one does not run at all."""
  name = path.split(".")[1]
  donor = Workdir.claim(world.workdir(), whole)
  changed = put(whole, f"stages.{name}.from", str(donor.path))
  return [bool(asked(world, each, name)[0]) for each in (changed, put(changed, path, new))]


def refused(world, whole, path, new):
  """Another value alone is refused: it must be that of another field."""
  try:
    put(whole, path, new)
  except UserError:
    return False, True
  return False, False


def encoded_elsewhere(world, whole, path, new):
  """The codes of another directory are read, and none are written in the workdir."""
  name = path.split(".")[1]
  _, first = asked(world, whole, name)
  calls, second = asked(world, put(whole, path, str(first / "codes")), name)
  assert calls
  return (first / "codes").is_dir(), (second / "codes").is_dir()


def layout(rules=None, mesh=None, kind=object, model=None):
  """The lowered steps on eight devices are others.

  rules, mesh, model: what the first ones have; kind: of the models that are looked at.
  """

  def observe(world, whole, path, new):
    shape = mesh or sharding.MeshShape(data=2, fsdp=2, model=2)
    first = replace(whole, rules=replace(whole.rules, **(rules or {})))
    second = put(first, path, new)
    stages = [stage for stage in whole.stages.values() if isinstance(stage.objective.model, kind)]
    changed = [replace(stage.objective.model, **(model or {})) for stage in stages]
    stages = [put(stage, "objective.model", each) for stage, each in zip(stages, changed)]
    texts = [[lowered(each, stage, EIGHT, shape) for stage in stages] for each in (first, second)]
    return tuple(texts[0]), tuple(texts[1])

  return observe


def meshed(coupled):
  """The lowered step on four devices is another one; coupled: which other axis takes the devices that are left."""

  def observe(world, whole, path, new):
    stage = next(iter(whole.stages.values()))
    shapes = whole.mesh, replace(put(whole, path, new).mesh, **coupled)
    return tuple(lowered(whole, stage, FOUR, shape) for shape in shapes)

  return observe


def seeded(world, whole, path, new):
  """Other random numbers in the step, and other batches."""
  name = _reads_text(whole)
  changed = put(whole, path, new)
  assert first_batch(world, whole, name) != first_batch(world, changed, name)
  noisy = next(stage for stage in whole.stages.values() if isinstance(stage.objective, ClipContrastive))
  return lowered(whole, noisy), lowered(changed, noisy)


def workers(world, whole, path, new):
  """So many processes read the data."""
  name = _reads_text(whole)
  return processes(world, whole, name), processes(world, put(whole, path, new), name)


def named(world, whole, path, new):
  """The page has another title."""
  return title(world, whole), title(world, put(whole, path, new))


def _reads_text(whole):
  return next(name for name, stage in whole.stages.items() if not isinstance(stage.objective, DvaeObjective))


def _unchecked(whole, path, new):
  """`put`, while the experiment does not fit together yet."""
  changed = object.__new__(type(whole))
  for field in dataclasses.fields(whole):
    object.__setattr__(changed, field.name, getattr(whole, field.name))
  key, _, rest = path.partition(".")
  object.__setattr__(changed, key, put(getattr(whole, key), rest, new))
  return changed


def plus(amount):
  return lambda value: value + amount


def times(factor):
  return lambda value: value * factor


def to(new):
  return lambda value: new


def other(a, b):
  return lambda value: b if value == a else a


def other_optimizer(value):
  shared = {field.name: getattr(value, field.name) for field in dataclasses.fields(AdamW)}
  return AdamW(**shared) if isinstance(value, Muon) else Muon(**shared)


def unless_none(change, new):
  return lambda value: new if value is None else change(value)


# First match counts. Path of the leaf: another value, and where the change must show.
TABLE = (
  # Classes: where a field takes several, another one; the rest has one class only.
  ("stages.*.optimizer.lr.kind", to(Constant(0.01)), optimizer),
  ("stages.*.objective.kl.kind", to(Linear(start=0.1, end=1.0, steps=7)), step),
  ("stages.*.objective.temperature.kind", to(Linear(start=0.9, end=0.5, steps=7)), step),
  ("stages.*.objective.likelihood.kind", to(Laplace()), step),
  ("stages.*.examples.crop.kind", other(CentreCrop(size=16), Stage2Crop(size=16)), batch),
  ("**kind", None, None),
  # The run.
  ("name", to("another"), named),
  ("data", to("another"), other_data),
  ("seed", plus(1), seeded),
  ("workers", to(2), workers),
  ("tokenizer.vocab", plus(10), everywhere(".text_vocab")),
  ("tokenizer.length", plus(1), everywhere(".model.text")),
  ("tokenizer.dropout", lambda value: (value + 0.5) / 2, batch),
  ("tokenizer.spaces", lambda value: not value, batch),
  # The loop.
  ("stages.*.steps", plus(1), files),
  ("stages.*.batch", plus(8), batch),
  ("stages.*.accumulate", to(2), lambda *args: _accumulate(*args)),
  ("stages.*.reduce", to(PowerSGD(rank=2)), lambda *args: _reduce(*args)),
  ("stages.*.save_every", to(2), files),
  ("stages.*.keep", to(1), files),
  ("stages.*.keep_every", to(4), lambda *args: _kept(*args)),
  ("stages.*.keep_best", to(2), lambda *args: _kept(*args)),
  ("stages.*.log_every", to(3), files),
  ("stages.*.show_every", to(2), files),
  ("stages.*.from", to("another"), donated),
  ("stages.*.frozen", to(True), frozen),
  # The optimizer.
  ("stages.*.optimizer.max_skipped", plus(1), health),
  ("stages.*.optimizer.lr.shape", other("half", "quarter"), optimizer),
  ("stages.*.optimizer.lr.warmup", plus(1), optimizer),
  ("stages.*.optimizer.lr.steps", plus(1), optimizer),
  ("stages.*.optimizer.lr.window", plus(1), optimizer),
  ("stages.*.optimizer.lr.patience", plus(1), optimizer),
  ("stages.*.optimizer.lr.halvings", plus(1), optimizer),
  ("stages.*.optimizer.lr.*", lambda value: 0.7 * value or 0.1, optimizer),
  ("stages.*.optimizer.b?", times(0.7), optimizer),
  ("stages.*.optimizer.eps", times(2), optimizer),
  ("stages.*.optimizer.decay", plus(0.1), optimizer),
  ("stages.*.optimizer.decay_*", lambda value: not value, lambda *args: _decays(*args)),
  ("stages.*.optimizer.spikes.z", times(2), optimizer),
  ("stages.*.optimizer.spikes.window", plus(1), optimizer),
  ("stages.*.optimizer.clip", unless_none(times(2), 1.0), optimizer),
  ("stages.*.optimizer.second_moment_clamp", unless_none(times(2), 5.0), optimizer),
  ("stages.*.optimizer.ema", unless_none(times(0.7), 0.5), optimizer),
  ("stages.*.optimizer.ema_every", plus(1), optimizer),
  ("stages.*.optimizer.kind", other_optimizer, optimizer),
  ("stages.*.optimizer.momentum", times(0.7), optimizer),
  ("stages.*.optimizer.matrices", times(0.7), optimizer),
  # What is read.
  ("stages.*.examples.crop.size", times(2), crop_size),
  ("stages.*.examples.captions", lambda value: not value, lambda *args: _captions(*args)),
  ("stages.*.examples.crops", unless_none(plus(3), 2), batch),
  ("stages.*.examples.dir", to("another"), encoded_elsewhere),
  ("stages.*.examples.sampled", to(True), lambda *args: _sampled(*args)),
  ("stages.*.examples.near_misses", lambda value: not value, lambda *args: _near_misses(*args)),
  ("stages.*.examples.drop_captions", plus(0.6), lambda *args: _drop_captions(*args)),
  # The objectives.
  ("stages.*.objective.kl.steps", plus(1), step),
  ("stages.*.objective.kl.warmup", plus(1), step),
  ("stages.*.objective.kl.shape", other("half", "quarter"), step),
  ("stages.*.objective.kl.*", plus(0.1), step),
  ("stages.*.objective.temperature.steps", plus(1), step),
  ("stages.*.objective.temperature.warmup", plus(1), step),
  ("stages.*.objective.temperature.shape", other("half", "quarter"), step),
  ("stages.*.objective.temperature.*", plus(0.1), step),
  ("stages.*.objective.spread_levels", lambda value: not value, step),
  ("stages.*.objective.patches_from", plus(3), start),
  ("stages.*.objective.text_weight", plus(0.1), step),
  ("stages.*.objective.image_weight", plus(0.1), step),
  ("stages.*.objective.pad_targets", lambda value: not value, step),
  ("stages.*.objective.vocab_parts", to(4), step),
  ("stages.*.objective.spoil_*", lambda value: (value + 0.5) / 2, step),
  ("stages.*.objective.dvae", to(dvae.Config()), refused),
  ("stages.*.objective.dvae.pool", other("max", "fold"), refused),
  ("stages.*.objective.dvae.code_kernel", to(3), refused),
  ("stages.*.objective.dvae.gain", to(0.5), refused),
  ("stages.*.objective.dvae.dtype", other("float32", "bfloat16"), refused),
  ("stages.*.objective.dvae.remat", lambda value: not value, refused),
  ("stages.*.objective.dvae.*", times(2), refused),
  # The models.
  ("stages.*.objective.model.image", times(2), image),
  ("stages.*.objective.model.pool", other("max", "fold"), step),
  ("stages.*.objective.model.code_kernel", to(3), lambda *args: _code_kernel(*args)),
  ("stages.*.objective.model.gain", to(0.5), step),
  ("stages.*.objective.model.dtype", other("float32", "bfloat16"), step),
  ("stages.transformer.objective.model.remat", other("full", "none"), step),
  ("stages.*.objective.model.remat", lambda value: not value, step),
  ("stages.*.objective.model.scan", lambda value: not value, step),
  ("stages.*.objective.model.attention", other("xla", "reference"), step),
  ("stages.*.objective.model.mix", lambda value: value[::-1] if value != value[::-1] else ("full", *value[1:]), step),
  ("stages.*.objective.model.last", unless_none(to(None), "conv"), step),
  ("stages.*.objective.model.kernel", other(3, 5), step),
  ("stages.*.objective.model.patch", to(4), step),
  ("stages.*.objective.model.order", other("text_first", "image_first"), step),
  ("stages.*.objective.model.mask_pads", lambda value: not value, step),
  ("stages.*.objective.model.softmax", other("joint", "separate"), step),
  ("stages.*.objective.model.layers", plus(1), step),
  ("stages.*.objective.model.text", plus(1), step),
  ("stages.*.objective.model.text_vocab", plus(1), step),
  ("stages.*.objective.model.groups", to(2), step),
  ("stages.*.objective.model.*", times(2), step),
  # Where the arrays lie. Kernels' sides and pictures' three channels do not divide, so these take axes of one device.
  ("mesh.data", to(2), meshed({"fsdp": -1})),
  ("mesh.fsdp", to(2), meshed({})),
  ("mesh.model", to(2), meshed({})),
  ("rules.batch", to(("data",)), layout()),
  ("rules.seq", to(("fsdp",)), layout({"batch": ("data",)}, kind=transformer.Config)),
  ("rules.head_dim", to(("fsdp",)), layout({"batch": ("data",), "embed": ()})),
  ("rules.position", to(("data",)), layout()),
  ("rules.layers", to(("data",)), layout(kind=transformer.Config, model={"scan": True})),
  ("rules.height", to(("model",)), layout(mesh=sharding.MeshShape(data=8))),
  ("rules.width", to(("model",)), layout(mesh=sharding.MeshShape(data=8))),
  ("rules.conv_in", to(("model",)), layout(mesh=sharding.MeshShape(data=8))),
  ("rules.*", to(()), layout()),
)


def _code_kernel(world, whole, path, new):
  """Another step; where codes are clusters of patches, it is refused."""
  patches = isinstance(whole.stages[path.split(".")[1]].objective, PatchDvae)
  return (refused if patches else step)(world, whole, path, new)


def _captions(world, whole, path, new):
  """Text beside the pictures; where the stage cannot do without, it is refused."""
  return (batch if new else refused)(world, whole, path, new)


def _accumulate(world, whole, path, new):
  """The step goes through the batch in parts; CLIP's, whose loss is no mean over examples, is refused."""
  clip = isinstance(whole.stages[path.split(".")[1]].objective, ClipContrastive)
  return (refused if clip else in_parts)(world, whole, path, new)


def _reduce(world, whole, path, new):
  """The loop is asked for it, and the step is another one; of all but transformers it is refused."""
  name = path.split(".")[1]
  if not isinstance(whole.stages[name].objective, TransformerNll):
    return refused(world, whole, path, new)
  changed = put(whole, path, new)
  assert asked(world, changed, name)[0]["reduce"] == new
  return lowered(whole, whole.stages[name]), lowered(changed, changed.stages[name])


def _decays(world, whole, path, new):
  """Decay of more leaves, of an optimizer that decays."""
  stage = path.rsplit(".", 1)[0]
  return optimizer(world, put(whole, f"{stage}.decay", 0.1), path, new)


def _kept(world, whole, path, new):
  """The files of a stage that keeps, of three checkpoints, the newest one alone but for what the field adds."""
  stage = path.rsplit(".", 1)[0]
  return files(world, put(put(whole, f"{stage}.keep", 1), f"{stage}.save_every", 2), path, new)


def _near_misses(world, whole, path, new):
  """More captions in CLIP's batches; where nothing reads them, they are refused."""
  clip = isinstance(whole.stages[path.split(".")[1]].objective, ClipContrastive)
  return (batch if clip else refused)(world, whole, path, new)


def _sampled(world, whole, path, new):
  """Other codes, of a dVAE by the published objective; where they have no probabilities, it is refused."""
  assert refused(world, whole, path, new)[1]
  model = whole.stages["dvae"].objective.model
  elbo = DvaeElbo(model=model, kl=Constant(0.0), temperature=Constant(1.0))
  return batch(world, put(whole, "stages.dvae.objective", elbo), path, new)


def _drop_captions(world, whole, path, new):
  """Empty captions in the transformer's batches; where nothing has a use for them, they are refused."""
  transformer = isinstance(whole.stages[path.split(".")[1]].objective, TransformerNll)
  return (batch if transformer else refused)(world, whole, path, new)


def entry(path):
  """The first entry whose pattern is the path; * is one name, ** any number of them."""
  return next((each for each in TABLE if re.fullmatch(_pattern(each[0]), path)), None)


def _pattern(text):
  return re.escape(text).replace(r"\*\*", ".*").replace(r"\*", "[^.]+").replace(r"\?", ".")


def changes(path, value):
  """The entry's other value, for a leaf; for a class, an object of it."""
  _, change, observe = entry(path)
  return change(value), observe


def looked_at():
  """Experiment and path of each leaf that another value is tried for."""
  shown = {}
  for name in NAMES:
    for path, value in config.leaves(tiny(name)):
      if not path.startswith(LOOKED_AT[name]) or not (entry(path) or (0, 0, 1))[2] or shown.get(path) == repr(value):
        continue
      shown.setdefault(path, repr(value))
      yield name, path


LEAVES = list(looked_at())


@pytest.mark.parametrize("name", NAMES)
def test_every_leaf_has_an_entry(name):
  whole = golden.resolved(name, ROOT, **NAMES[name])
  missing = [path for path, _ in config.leaves(whole) if entry(path) is None]
  assert missing == [], "say in TABLE how to change these fields, and where it must show"
  assert {path for path, _ in config.leaves(whole)} == {path for path, _ in config.leaves(tiny(name))}


class Noisy:
  """Pictures of noise in two splits, each with three captions."""

  name, splits = "noisy", ("train", "valid")

  def __init__(self, seed):
    self.seed = seed

  def examples(self, split):
    for i in range(24):
      png, rng = io.BytesIO(), np.random.default_rng([self.seed, len(split), i])
      Image.fromarray(rng.integers(0, 256, (20, 40, 3)).astype(np.uint8)).save(png, "PNG")
      texts = tuple(f"{word} colourful picture" for word in ("one", "another", "some"))
      yield Raw(key=f"{i}", image=png.getvalue(), captions=texts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  directory = tmp_path_factory.mktemp("data")
  for seed in (0, 1):
    prepare(Noisy(seed), directory / str(seed))
  return directory


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), LEAVES)
def test_another_value_changes_something(name, path, data, tmp_path, monkeypatch):
  whole = tiny(name, data / "0")
  world = World(data=data / "0", other_data=data / "1", room=tmp_path, patch=monkeypatch)
  if path.endswith(".kind"):
    path = path.removesuffix(".kind")
    new, observe = changes(f"{path}.kind", get(whole, path))
  else:
    new, observe = changes(path, get(whole, path))
  assert new != get(whole, path)
  before, after = observe(world, whole, path, new)
  assert before != after, f"{path}: nothing shows that it is {new} and not {get(whole, path)}"
