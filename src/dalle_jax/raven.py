"""Raven's matrices put to a run: which it completes, by set, by kind of rule, and with colours inverted (paper 8.2)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from dalle_jax import evaluate
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.raven import items as items_lib
from dalle_jax.data.raven import rules, source
from dalle_jax.errors import StorageError, UserError
from dalle_jax.evaluation.raven import page, protocol, table
from dalle_jax.evaluation.raven.protocol import Outcome
from dalle_jax.evaluation.raven.table import Row
from dalle_jax.experiment import dvae_stage
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
  """What was asked and answered. by_training: empty where it is not known which kinds the training data shows."""

  outcomes: list[Outcome]
  by_set: list[Row]
  by_kind: list[Row]
  by_training: list[Row]
  page: Path


def probe(
  workdir: Workdir,
  *,
  items: int = 12,
  seed: int = 0,
  out: Path,
  batch: int = 64,
  mesh: MeshShape | None = None,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Probed:
  """Asks `items` matrices of each set, and the same ones inverted, and writes the tables and a page under `out`.

  batch: matrices completed at the same time; mesh: of devices that complete them, one if None. say: told in a line that
  a stage is not trained to its end, that the caption is cut off, or that the training data can't be looked at. Raises
  UserError where there is nothing to ask, the run has no weights of a dVAE and a transformer, its pictures don't divide
  into panels, or `out` can't be written.
  """
  if items < 1 or batch < 1:
    raise UserError(f"got {items} items of each set and a batch of {batch}, wanted at least 1 of both")
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write the probe to {out}: it is a file; take another --out")
  experiment = workdir.experiment()
  name = dvae_stage(experiment)
  if name is None:
    raise UserError(f"{workdir} has no dVAE, whose codes a matrix is given in: take a run that trains one")
  model = experiment.stage(name).objective.model
  asked = protocol.choose(items_lib.Layout(image=model.image, grid=model.grid), count=items, seed=seed)
  drawer = evaluate.drawer(workdir, batch, mesh)
  text_T = workdir.tokenizer().ids(items_lib.CAPTION)
  for line in _caveats(workdir):
    say(line)
  trained = _trained(workdir, say)
  done = 0
  progress("completing", 0, len(asked))

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("completing", done, len(asked))

  outcomes = protocol.complete(drawer, text_T, asked, progress=tell)
  about = {
    "experiment": experiment.name,
    "caption": items_lib.CAPTION,
    "codes of a panel": f"{asked[0].layout.codes}x{asked[0].layout.codes}",
    "pixels of a panel": f"{asked[0].layout.pixels}x{asked[0].layout.pixels}",
    "items of each set": items,
    "seed": seed,
  }
  written = page.write(out, outcomes, title=f"Raven's matrices: {experiment.name}", about=about, trained=trained)
  return Probed(
    outcomes=outcomes,
    by_set=table.by_set(outcomes, trained),
    by_kind=table.by_kind(outcomes, trained),
    by_training=table.by_training(outcomes, trained) if trained else [],
    page=written,
  )


def _trained(workdir: Workdir, say: Callable[[str], object]) -> frozenset[str] | None:
  """The kinds of rule that the run's data shows; None where the data is not there to look at."""
  data = workdir.experiment().data
  try:
    name = open_prepared(data).name
  except (UserError, StorageError):
    say(f"the run's data, {data}, can't be read here, so which kinds of rule it was trained on is not told")
    return None
  return frozenset(kind.kind for kind in rules.TRAINED) if name == source.NAME else frozenset()


def _caveats(workdir: Workdir) -> list[str]:
  stages = {name: stage for name, stage in workdir.experiment().stages.items() if not stage.frozen}
  words, caption = workdir.tokenizer(), items_lib.CAPTION
  count, most = len(words.encode(caption)), words.cfg.length - 1
  lines = [f"the caption {caption!r} has {count} tokens; only the first {most} are read"] if count > most else []
  return lines + [
    f"stage {name} is at step {step} of {stage.steps}: its training has not ended"
    for name, stage in stages.items()
    if 0 < (step := workdir.step(name)) < stage.steps
  ]
