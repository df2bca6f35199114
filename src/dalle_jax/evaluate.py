"""A run's stages, measured and shown: WORKDIR/evaluation.json and WORKDIR/index.html."""

import json
from pathlib import Path

from dalle_jax import config, places
from dalle_jax.data.prepared import open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import page, report, results
from dalle_jax.evaluation.report import Progress, Protocol, Report, Trained
from dalle_jax.places import Place
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.training import goodput, metrics
from dalle_jax.workdir import Workdir


def load(workdir: Workdir) -> dict[str, Trained]:
  """The stages that have weights, by name. Raises UserError when none has."""
  experiment, found = workdir.experiment(), {}
  for name, stage in experiment.stages.items():
    if stage.frozen or workdir.checkpoints(name).good_steps():
      params, _ = workdir.weights(name)
      step = stage.steps if stage.frozen else workdir.step(name)
      found[name] = Trained(objective=stage.objective, params=params, batch=stage.batch, step=step)
  if not found:
    raise UserError(f"{workdir} has no weights of any stage yet: run `dalle train` on it first")
  return found


def drawer(workdir: Workdir, batch: int = 256) -> Drawer:
  """What draws with the run's weights. Raises UserError when its dVAE or its transformer has none."""
  draws = report.drawer(load(workdir), batch)
  if draws is None:
    raise UserError(f"{workdir} cannot draw yet: both a dVAE and a transformer must be trained; run `dalle train`")
  return draws


def evaluate(
  workdir: Workdir,
  protocol: Protocol,
  *,
  data: str | Place | None = None,
  progress: Progress = lambda what, done, total: None,
) -> Report:
  """Measures what the run has trained, on its own data or on `data`, and writes evaluation.json and the page."""
  prepared = open_prepared(data or workdir.experiment().data)
  found = report.evaluate(load(workdir), prepared, workdir.tokenizer(), protocol, progress)
  try:
    places.write(workdir.path / "evaluation.json", json.dumps(results.to_json(found), indent=2).encode() + b"\n")
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
    title=f"What {experiment.name} draws",
    curves={name: metrics.read(workdir.path / name / "metrics.jsonl") for name in experiment.stages},
    times=workdir.times(),
    goodput={name: goodput.summary(goodput.read(workdir.path / name)) for name in experiment.stages},
    config=config.to_text(experiment),
  )
