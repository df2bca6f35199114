"""Trains what packs ask for, below one directory, each thing once.

OUT/data               the embedded scenes
OUT/shared/DIGEST      a workdir of the stages that arms have in common
OUT/tokenizers/DIGEST  OUT/codes/DIGEST     what they read, the codes of one seed's crops
OUT/runs/DIGEST        a workdir of one arm and seed; arms whose experiments are equal have the same

Several processes may do so at once: what they share is made by one, and the others wait for it.
"""

import dataclasses
from pathlib import Path

from dalle_jax import config, places, run, stage_codes, stage_inputs
from dalle_jax.ablations import keys
from dalle_jax.ablations.alone import alone
from dalle_jax.ablations.scenes import Data
from dalle_jax.data import codes
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.errors import UserError
from dalle_jax.experiment import Codes, Experiment, Stage, dvae_stage
from dalle_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
  """Where packs are run: the directory, and the data that they read."""

  out: Path
  data: Data

  def workdir(self, experiment: Experiment, stage: str, seed: int) -> Path:
    """Of the run of an arm at a seed."""
    return self.out / "runs" / keys.digest(keys.run(experiment, stage, seed), self.data.digest)

  def shared(self, experiment: Experiment, stage: str) -> Path | None:
    """The workdir of the stages before the one that is trained; None where there are none."""
    before = keys.earlier(experiment, stage)
    return before and self.out / "shared" / keys.digest(before, self.data.digest)


def prepare(bench: Bench, experiment: Experiment, stage: str) -> None:
  """Trains the stages that come before, where they are not. Raises what `run.run` raises."""
  before = keys.earlier(experiment, stage)
  if before is None:
    return
  place = bench.shared(experiment, stage)
  before = dataclasses.replace(before, data=str(bench.data.path))
  with alone(place):
    _take_tokenizer(bench, before, place)
    run.run(before, str(place), show=False)


def train(bench: Bench, experiment: Experiment, stage: str, seed: int) -> Workdir:
  """Trains an arm at a seed, or goes on with it, and returns the finished run. Raises what `run.run` raises."""
  place, shared = bench.workdir(experiment, stage, seed), bench.shared(experiment, stage)
  own = dataclasses.replace(keys.run(experiment, stage, seed), data=str(bench.data.path))
  if shared is not None:
    taken = {
      name: dataclasses.replace(each, from_=str(shared.resolve()), frozen=True)
      for name, each in own.stages.items()
      if name != stage
    }
    own = dataclasses.replace(own, stages=taken | {stage: _with_codes(bench, own, stage, shared)})
  with alone(place):
    _take_tokenizer(bench, own, place)
    return run.run(own, str(place), show=False)


def _with_codes(bench: Bench, experiment: Experiment, stage: str, shared: Path) -> Stage:
  """The stage, reading the codes of its crops by the shared dVAE at the run's seed, which are made if they are not."""
  trained = experiment.stage(stage)
  if not isinstance(trained.examples, Codes) or trained.examples.dir is not None:
    return trained
  crops, dvae, prepared = trained.examples.crops, Workdir.open(shared), open_prepared(experiment.data)
  if dvae_stage(dvae.experiment()) is None:
    raise UserError(f"the stage {stage} reads codes, and no stage before it makes any")
  stamp = stage_codes.stamp_of(prepared, dvae, crops=crops, seed=experiment.seed, sampled=trained.examples.sampled)
  place = bench.out / "codes" / keys.of(dataclasses.asdict(stamp) | {"data": bench.data.digest})
  with alone(place):
    if not place.is_dir():
      codes.encode(prepared, place, stamp, stage_codes.encoder(dvae))
  return dataclasses.replace(trained, examples=dataclasses.replace(trained.examples, dir=str(place.resolve())))


def _take_tokenizer(bench: Bench, experiment: Experiment, place: Path) -> None:
  """Gives a new run the tokenizer that others of its kind have, which is trained if none has."""
  if not any(stage_inputs.reads_text(stage) for stage in experiment.stages.values()):
    return
  kept = bench.out / "tokenizers" / keys.of([config.to_dict(experiment.tokenizer), bench.data.digest])
  with alone(kept):
    if not kept.is_file():
      prepared: Prepared = open_prepared(experiment.data)
      places.write(kept, stage_inputs.train_tokenizer(prepared, prepared.splits[0], experiment))
  workdir = Workdir.claim(place, experiment)
  if not workdir.tokenizer_file.is_file():
    workdir.keep_tokenizer(kept.read_bytes())
