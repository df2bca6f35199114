"""Runs an experiment: its tokenizer, then its stages in order, each from where the workdir stands.

    tokenizer      trained on the training split's captions, once
    dVAE           on pictures
    codes          the frozen dVAE's, of every picture, before the first stage that reads them
    transformer    on captions and codes (or pixels, encoded in the step)
    CLIP           on captions and pictures, or codes

Whatever ends the process, the same call goes on; a stage that is done is passed over.
"""

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping

import numpy as np
from jax.sharding import Mesh

from dalle_jax import (
  __version__,
  config,
  places,
  processes,
  prompt_metrics,
  sharding,
  stage_codes,
  stage_inputs,
  step_shapes,
)
from dalle_jax.data import pipeline
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment, Stage, dvae_stage
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.places import Place
from dalle_jax.showing import hooks
from dalle_jax.training import compile_cache, left_out, lock
from dalle_jax.training.loop import train
from dalle_jax.training.throughput import Work
from dalle_jax.workdir import Workdir, check_taken


def run(
  experiment: Experiment,
  path: str | Place,
  *,
  only: str | None = None,
  profile: tuple[int, int] | None = None,
  wandb: str | None = None,
  step_limit: float = 1800.0,
  rollback: bool = False,
  measured: prompt_metrics.Asked | None = None,
  show: bool = True,
) -> Workdir:
  """Runs all stages, or `only` one, in the workdir at `path`, and returns it.

  profile: first and last step, of each stage that runs, of a trace for XProf in WORKDIR/STAGE/profile; wandb: a project
  of Weights & Biases for each stage's metrics and pictures; step_limit: seconds a step may take; rollback: pass over
  the batches on which training health stopped the run; measured: of a fixed list of captions, while a stage trains;
  show: whether a stage draws or measures what it has learnt, every `show_every` steps and at its end.

  Of several processes all call this, with the same arguments and a workdir that all can read. The first one claims the
  workdir, trains the tokenizer and encodes pictures; all train.

  Raises UserError when the data or the workdir does not fit the experiment, and what `training.loop.train` raises.
  """
  names = list(experiment.stages) if only is None else [only]
  for name in names:
    experiment.stage(name)
  for name, stage in experiment.stages.items():
    if stage.from_ is not None and (name in names or stage.frozen):
      check_taken(name, stage)
  prepared = open_prepared(experiment.data)
  place = places.at(path)
  if place.resolve() == places.at(experiment.data).resolve():
    raise UserError(f"the workdir {path} is the data's own directory: take another --workdir")
  split = prepared.splits[0]
  begun = Workdir.at(place)
  if measured is not None:
    prompt_metrics.check(measured, experiment, names, begun, prepared, lambda name: _stands_at(begun, name))
  if rollback and not places.in_bucket(place):
    _check_rollback(begun, names)
  _check_beforehand(experiment, names, begun)
  processes.agree(lambda: _facts(experiment, prepared))
  with contextlib.ExitStack() as stack:
    stack.enter_context(lock.held(place))
    workdir = processes.by_first(lambda: _prepare(Workdir.claim(place, experiment), prepared, split))
    if workdir is None:
      workdir = Workdir.open(place)
      workdir.fetch("xla_cache")
    else:
      stack.enter_context(workdir.kept())
    stack.enter_context(compile_cache.under(workdir.path))
    if rollback:
      processes.by_first(lambda: _roll_back(workdir, names))
      if processes.index() and workdir.mirror:
        Workdir.open(place)  # which batches are passed over, all have to know
    for name in names:
      if not experiment.stage(name).frozen:
        _run_stage(name, workdir, prepared, split, profile, wandb, step_limit, measured, show)
        processes.wait()  # the first one is done when its checkpoint is
  return workdir


def _check_beforehand(experiment: Experiment, names: list[str], workdir: Workdir) -> None:
  """Raises UserError for what would stop a stage that is not done, and can be known before anything is written."""
  mesh, first = sharding.make_mesh(experiment.mesh), dvae_stage(experiment)
  left = [name for name in names if not experiment.stage(name).frozen]
  left = [name for name in left if _stands_at(workdir, name) < experiment.stage(name).steps]
  for name in left:
    if not stage_codes.needs_dvae(experiment.stage(name)) or first in names or experiment.stage(first).frozen:
      continue
    if not _stands_at(workdir, first):
      raise UserError(f"{workdir} has no weights of stage {first} yet: run `dalle train` on it first")
  for name in left:  # last, as tracing a large model takes a while
    step_shapes.check(experiment, name, mesh)


def _stands_at(workdir: Workdir, name: str) -> int:
  """The newest good step of a stage; 0 where there is none, or it can't be read, which the lock then says."""
  try:
    return workdir.step(name)
  except OSError:
    return 0


def _facts(experiment: Experiment, prepared: Prepared) -> dict[str, str]:
  """What has to be the same in all processes of a run."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
  told = json.dumps(config.to_dict(experiment) | {"data": ""}, sort_keys=True).encode()  # each host's own path
  return {
    "experiment": hashlib.sha256(told).hexdigest()[:16],
    "data": prepared.digest()[:16],
    "versions": ", ".join([__version__, *(f"{name} {importlib.metadata.version(name)}" for name in packages)]),
  }


def _prepare(workdir: Workdir, prepared: Prepared, split: str) -> Workdir:
  """Trains the tokenizer, if the workdir has none and a stage reads text. The workdir."""
  experiment = workdir.experiment()
  if not workdir.tokenizer_file.is_file() and any(
    stage_inputs.reads_text(stage) for stage in experiment.stages.values()
  ):
    with workdir.timed("tokenizer"):
      workdir.keep_tokenizer(stage_inputs.train_tokenizer(prepared, split, experiment))
  workdir.keep()
  return workdir


def _roll_back(workdir: Workdir, names: list[str]) -> None:
  """Has the batches passed over that stopped a stage. Raises as `_check_rollback`."""
  _check_rollback(workdir, names)
  for name in names:
    if steps := left_out.roll_back(workdir.path / name):
      processes.say_once(f"{name}: passing over the batches of steps {steps[0]} to {steps[-1]}")
  workdir.keep()


def _check_rollback(workdir: Workdir, names: list[str]) -> None:
  """Raises UserError where nothing stopped a stage, now or before. (A launcher gives the flag to every start.)"""
  if not any(left_out.noted(workdir.path / name) for name in names):
    raise UserError(f"--rollback: training health has not stopped {' or '.join(names)} in {workdir}: leave it out")


def _run_stage(
  name: str,
  workdir: Workdir,
  prepared: Prepared,
  split: str,
  profile: tuple[int, int] | None,
  wandb: str | None,
  step_limit: float,
  measured: prompt_metrics.Asked | None,
  show: bool,
) -> None:
  experiment = workdir.experiment()
  stage, steps = experiment.stage(name), experiment.stage(name).steps
  done = processes.number_by_first(lambda: workdir.step(name) or None)
  if done and done >= steps:
    processes.say_once(f"{name}: done, {steps} steps")
    return
  _warn_of_schedule(name, stage)
  words = workdir.tokenizer() if stage_inputs.reads_text(stage) else None
  if words is not None:
    stage_inputs.warn_of_truncation(name, prepared, split, words)
  frozen, hashes = stage_codes.frozen_weights(stage, workdir)
  if done:
    stage_codes.check_begun_on(name, workdir, hashes)
  mesh = sharding.make_mesh(experiment.mesh)
  share = sharding.share(mesh, experiment.rules)
  source, view = stage_inputs.examples(stage, words, workdir, prepared, split)

  def batches(first: int) -> Iterator[Mapping[str, np.ndarray]]:
    return pipeline.batches(
      source,
      view,
      seed=experiment.seed,
      batch=stage.batch,
      first=first,
      parts=share.parts,
      of=share.of,
      workers=experiment.workers,
    )

  shown = hooks(name, workdir, prepared) if show else ()
  parts = f", in {stage.accumulate} parts" if stage.accumulate > 1 else ""
  processes.say_once(f"{name}: batches of {stage.batch:,}, {stage.batch / mesh.size:g} a device{parts}; {_hosts(mesh)}")
  with workdir.timed(name):
    train(
      name=name,
      steps=steps,
      objective=stage.objective,
      optimizer=stage.optimizer,
      seed=experiment.seed,
      mesh=mesh,
      rules=experiment.rules,
      accumulate=stage.accumulate,
      reduce=stage.reduce,
      frozen=frozen,
      batches=batches,
      workdir=workdir.path / name,
      store=workdir.store(name),
      beforehand=workdir.keep,
      files=_files(workdir, hashes),
      hooks=(*shown, *prompt_metrics.hooks(measured, name, workdir, prepared, processes.say_once)),
      start=stage_inputs.first_weights(name, workdir, prepared, split),
      work=_work(stage),
      profile=profile,
      wandb=wandb,
      step_limit=step_limit,
      save_every=stage.save_every,
      keep=stage.keep,
      keep_every=stage.keep_every,
      keep_best=stage.keep_best,
      log_every=stage.log_every,
    )


def _hosts(mesh: Mesh) -> str:
  hosts = len({device.process_index for device in mesh.devices.flat})
  return "one process" if hosts == 1 else f"{hosts} processes of {mesh.size // hosts} devices"


def _work(stage: Stage) -> Work:
  """What an example of the stage costs; tokens are those of the transformer's stream."""
  model = stage.objective.model
  stream = model.text + model.grid**2 if isinstance(stage.objective, TransformerNll) else 0
  return Work(flops=stage.objective.flops(), tokens=stream)


def _files(workdir: Workdir, hashes: dict[str, str]) -> dict[str, bytes]:
  """What makes a checkpoint explain itself."""
  files = {"experiment.json": json.dumps(config.to_dict(workdir.experiment()), indent=2).encode()}
  if workdir.tokenizer_file.is_file():
    files["tokenizer.model"] = workdir.tokenizer_file.read_bytes()
    hashes = hashes | {"tokenizer": hashlib.sha256(files["tokenizer.model"]).hexdigest()}
  return files | {"hashes.json": json.dumps(hashes).encode()}


def _warn_of_schedule(name: str, stage: Stage) -> None:
  """Says where the rate's schedule ends at another step than the stage."""
  ends = getattr(stage.optimizer.lr, "steps", stage.steps)
  if ends != stage.steps:
    processes.say_once(
      f"{name}: takes {stage.steps:,} steps, and its rate falls until step {ends:,}: "
      f"--stages.{name}.optimizer.lr.steps {stage.steps} makes both end together"
    )
