"""A run's stages, measured and shown: WORKDIR/evaluation.json and WORKDIR/index.html."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from dalle_jax import config, places, published, sharding
from dalle_jax.data.prepared import open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import page, report, results
from dalle_jax.evaluation.metrics import protocol as metric_protocol
from dalle_jax.evaluation.published_clip import Clip, PublishedCosine
from dalle_jax.evaluation.report import Progress, Protocol, Report, Trained
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.places import Place
from dalle_jax.sampling import ranking
from dalle_jax.sampling.devices import Devices
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.generate import check_draws
from dalle_jax.sharding import MeshShape
from dalle_jax.training import goodput, metrics
from dalle_jax.workdir import Workdir, laid_out


def over(workdir: Workdir, shape: MeshShape | None) -> Devices:
  """All devices in this mesh, by the experiment's rules; one device if None. Raises UserError where they are others."""
  mesh = None if shape is None else sharding.make_mesh(shape)
  return Devices(mesh=mesh if mesh is not None and mesh.size > 1 else None, rules=workdir.experiment().rules)


def load(workdir: Workdir, devices: Devices = Devices()) -> dict[str, Trained]:
  """The stages that have weights, by name, laid out over the devices.

  Raises UserError when none has weights, or the tokenizer is not the one that they were trained with.
  """
  experiment, found = workdir.experiment(), {}
  for name, stage in experiment.stages.items():
    if stage.frozen or workdir.checkpoints(name).good_steps():
      if isinstance(stage.objective, TransformerNll | ClipContrastive):
        workdir.check_tokenizer(name)
      params, digest = workdir.weights(name, devices.mesh and laid_out(stage, devices.mesh, devices.rules))
      step = stage.steps if stage.frozen else workdir.step(name)
      found[name] = Trained(objective=stage.objective, params=params, digest=digest, batch=stage.batch, step=step)
  if not found:
    raise UserError(f"{workdir} has no weights of any stage yet: run `dalle train` on it first")
  return found


def drawer(workdir: Workdir, batch: int = 256, shape: MeshShape | None = None, clip: Path | None = None) -> Drawer:
  """What draws with the run's weights, over this mesh of devices; on one if None.

  clip: the directory of a published CLIP, converted, that may rank; none if None. Raises UserError when the dVAE or the
  transformer has no weights, or where they do not divide over the mesh, the transformer was trained image-first, or
  that directory holds no CLIP.
  """
  models = [s.objective.model for s in workdir.experiment().stages.values() if isinstance(s.objective, TransformerNll)]
  if models and all(model.order == "image_first" for model in models):
    check_draws(models[0])
  devices = over(workdir, shape)
  found = load(workdir, devices)
  draws = report.drawer(found, batch, devices)
  if draws is None:
    raise UserError(f"{workdir} cannot draw yet: both a dVAE and a transformer must be trained; run `dalle train`")
  draw_with = TransformerNll | FirstStage
  weights = {name: each.digest for name, each in found.items() if isinstance(each.objective, draw_with)}
  own = report.find(found, ClipContrastive)
  draws = dataclasses.replace(draws, weights=weights, judges={"clip": own.digest} if own else {})
  return ranked_by(draws, published.clip(clip, devices, batch)) if clip else draws


def ranked_by(draws: Drawer, clip: Clip) -> Drawer:
  """The drawer with a published CLIP among what may rank."""
  judges = {**draws.judges, ranking.PUBLISHED: metric_protocol.identity(clip.about())}
  return dataclasses.replace(draws, judges=judges, published=functools.partial(PublishedCosine, clip))


def made_by(workdir: Workdir, stages: Mapping[str, Trained]) -> dict[str, Any]:
  """What a protocol tells of the subject: the experiment, these stages' checkpoints, devices, versions, commit."""
  experiment, checkpoints = workdir.experiment(), {}
  for name, trained in stages.items():
    stage = experiment.stage(name)
    where = {"from": str(stage.from_)} if stage.frozen else {"step": trained.step}  # of a frozen one no step is known
    checkpoints[name] = {**where, "sha256": trained.digest}
  return {
    "experiment": {"name": experiment.name, "sha256": config.digest(experiment)},
    "checkpoints": checkpoints,
    "device": f"{jax.device_count()} {jax.devices()[0].device_kind}",
    **metric_protocol.surroundings(),
  }


def evaluate(
  workdir: Workdir,
  protocol: Protocol,
  *,
  data: str | Place | None = None,
  shape: MeshShape | None = None,
  progress: Progress = lambda what, done, total: None,
) -> Report:
  """Measures what the run has trained, on its own data or on `data`, and writes evaluation.json and the page.

  shape: of the mesh of devices that measure and draw; one device if None.
  """
  prepared = open_prepared(data or workdir.experiment().data)
  devices = over(workdir, shape)
  stages = load(workdir, devices)
  found = report.evaluate(stages, prepared, workdir.tokenizer(), protocol, progress, devices)
  numbers = results.to_json(found)
  numbers["protocol"] |= {"data": {"name": prepared.name, "sha256": prepared.digest()}, **made_by(workdir, stages)}
  try:
    places.write(workdir.path / "evaluation.json", json.dumps(numbers, indent=2).encode() + b"\n")
  except OSError as error:
    raise UserError(f"cannot write to {workdir}: {error.strerror or error}") from error
  write_page(workdir, found)
  workdir.keep()
  return found


def write_page(workdir: Workdir, found: Report) -> Path:
  """Writes WORKDIR/index.html and returns its path."""
  experiment = workdir.experiment()
  return page.write(
    workdir.path,
    found,
    title=f"What {experiment.name} {'writes' if found.written else 'draws'}",
    curves={name: metrics.read(workdir.path / name / "metrics.jsonl") for name in experiment.stages},
    times=workdir.times(),
    goodput={name: goodput.summary(goodput.read(workdir.path / name)) for name in experiment.stages},
    config=config.to_text(experiment),
  )
