"""Everything that is asked for, in turn, and the result: eval.json, a table, a page."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dalle_jax.errors import UserError
from dalle_jax.evaluation.metrics import page, result
from dalle_jax.evaluation.metrics.page import Looks
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.evaluation.reconstruction import reconstruct
from dalle_jax.measure import dvae, samples, seeing, transformer
from dalle_jax.measure.asked import DVAE, OF_CLIP, SAMPLES, TRANSFORMER, Asked
from dalle_jax.measure.run import PARTS, Progress, Run, begin
from dalle_jax.places import Place
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir

FOLDER, PAIRS = "metrics", 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
  """The figures with their protocols, and the page that shows them."""

  measured: tuple[Measured, ...]
  page: Place


def measure(
  workdir: Workdir,
  asked: Asked,
  *,
  out: Path | None = None,
  data: str | Place | None = None,
  shape: MeshShape | None = None,
  progress: Progress = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Done:
  """Measures, and writes OUT/eval.json and OUT/index.html; OUT/parts keeps what a second call needs not measure again.

  out: WORKDIR/metrics if None. Raises UserError for what can't be measured before anything is.
  """
  if not asked.metrics:
    raise UserError("got no metric, wanted at least one")
  out = workdir.path / FOLDER if out is None else out
  if workdir.mirror and out == workdir.path / FOLDER:
    workdir.fetch(FOLDER)
  run = seeing.excluded(begin(workdir, asked, out, data=data, shape=shape, progress=progress))
  _check_stage(run)
  if asked.of(DVAE):
    dvae.check(run)
  if asked.of(TRANSFORMER):
    run.transformer(draws=False)
    run.first_stage()
    run.tokenizer_digest()
  networks = seeing.networks(run)
  if asked.of(SAMPLES):
    samples.check(run, networks)
  found: list[Measured] = []
  looks, notes, size = Looks(), list(seeing.notes(run)), 0
  for line in notes:
    say(line)
  if asked.of(DVAE):
    measured, parts = dvae.measure(run, networks)
    found, size, looks = found + measured, size + parts.bytes(), dataclasses.replace(looks, pairs=_pairs(run))
  if asked.of(TRANSFORMER):
    measured, parts = transformer.measure(run)
    nats_P = sum(part.sum(axis=0, dtype=np.float64) for part in parts.each("image_by_token")) / len(run)
    side = int(len(nats_P) ** 0.5)
    found, size = found + measured, size + parts.bytes()
    looks = dataclasses.replace(looks, nats_hw=nats_P.reshape(side, side))
  if asked.of(SAMPLES):
    measured, seen, more = samples.measure(run, networks)
    found, size = found + measured, size + more
    looks = dataclasses.replace(looks, captions=seen.captions, drawn=seen.drawn)
  result.write(out / result.NAME, found)
  shown = workdir.place / FOLDER if workdir.mirror and out == workdir.path / FOLDER else out
  title = f"{workdir.experiment().name} on {run.split}"
  written = page.write(out, found, looks, title=title, notes=notes)
  workdir.keep()
  say(
    f"{shown / PARTS} holds {size / 1e6:,.1f} MB, by which the same command goes on, or tells other figures of the same"
  )
  return Done(measured=tuple(found), page=shown / written.name)


def _check_stage(run: Run) -> None:
  """Raises UserError where a stage is named that no metric asked for is of."""
  named = run.asked.stage
  if named is None:
    return
  groups = {
    (DVAE, TRANSFORMER, SAMPLES): run.first_stage,
    (TRANSFORMER,): lambda: run.transformer(draws=False),
    (SAMPLES,): lambda: run.transformer(draws=True),
    (OF_CLIP,): run.clip,
  }
  for group, chosen in groups.items():
    if any(run.asked.of(each) for each in group) and (found := chosen()) and found[0] == named:
      return
  raise UserError(f"got --stage {named}, of which {' '.join(run.asked.metrics)} says nothing: leave it out")


def _pairs(run: Run) -> tuple[np.ndarray, np.ndarray]:
  _, stage = run.first_stage()
  images_NHWC = run.read(np.arange(min(PAIRS, len(run))), stage.objective.model.image).images_NHWC
  return images_NHWC, reconstruct(stage.params, stage.objective.model, images_NHWC, run.devices)[0]
