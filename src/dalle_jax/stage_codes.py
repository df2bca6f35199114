"""A run's image tokens: whose weights make them, the codes of all pictures, and what was begun on which of them."""

import json
import shutil
from typing import Any

import numpy as np

from dalle_jax import processes
from dalle_jax.data import codes
from dalle_jax.data.prepared import Prepared
from dalle_jax.errors import StorageError, UserError
from dalle_jax.experiment import Codes, Stage, check_drawn, dvae_stage
from dalle_jax.models import image_tokenizer
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.training.progress import StepProgress
from dalle_jax.workdir import Workdir


def encoder(workdir: Workdir) -> codes.Encode:
  """What encodes pictures by the workdir's dVAE. Raises UserError when the run has none, or no weights of it yet."""
  name = dvae_of(workdir)
  model, (params, _) = workdir.experiment().stage(name).objective.model, workdir.weights(name)

  def encode(images_BHWC: np.ndarray, seed_B: np.ndarray | None = None) -> np.ndarray:
    if seed_B is None:
      return np.asarray(image_tokenizer.encode_images(params, model, images_BHWC))
    return np.asarray(image_tokenizer.sample_codes(params, model, images_BHWC, seed_B))

  return encode


def stamp_of(prepared: Prepared, workdir: Workdir, *, crops: int, seed: int, sampled: bool = False) -> codes.Stamp:
  """What the codes of this data by the workdir's dVAE are stamped with.

  Raises UserError as `encoder` does, and where codes are to be drawn by probabilities that there are none of.
  """
  name = dvae_of(workdir)
  objective = workdir.experiment().stage(name).objective
  if sampled:
    check_drawn(f"encoding by {workdir}", objective)
  model, (_, digest) = objective.model, workdir.weights(name)
  sizes = {"vocab": model.vocab, "grid": model.grid, "size": model.image}
  return codes.stamp(prepared, dvae=digest, crops=crops, seed=seed, sampled=sampled, **sizes)


def made(wanted: Codes, workdir: Workdir, prepared: Prepared) -> codes.Codes:
  """The codes in the directory named, checked; or the workdir's own, made if they are not there or of other weights."""
  stamp = stamp_of(prepared, workdir, crops=wanted.crops, seed=workdir.experiment().seed, sampled=wanted.sampled)
  if wanted.dir is not None:
    found = codes.open_codes(wanted.dir)
    codes.check(found, stamp)
    return found
  if workdir.codes.is_dir():
    if (found := _undamaged(workdir)) and found.stamp == stamp:
      return found
    processes.say_once("codes: those of the workdir are damaged, or of other weights or data; encoding anew")
    shutil.rmtree(workdir.codes)
  return _encoded(workdir, prepared, stamp)


def _undamaged(workdir: Workdir) -> codes.Codes | None:
  """The workdir's codes, if they can be read."""
  try:
    return codes.open_codes(workdir.codes) if (workdir.codes / codes.STAMP).is_file() else None
  except StorageError as error:
    processes.say_once(f"codes: {error}")
    return None


def _encoded(workdir: Workdir, prepared: Prepared, stamp: codes.Stamp) -> codes.Codes:
  """Encodes all pictures into the workdir, under a progress bar."""
  done, bar = 0, StepProgress("codes", sum(stamp.examples.values()) * stamp.crops, 0, unit="crops")

  def progress(count: int) -> None:
    nonlocal done
    done += count
    bar.update(done)

  try:
    with workdir.timed("codes"):
      found = codes.encode(prepared, workdir.codes, stamp, encoder(workdir), progress=progress)
    workdir.keep()
    return found
  finally:
    bar.close()


def frozen_weights(stage: Stage, workdir: Workdir) -> tuple[Any, dict[str, str]]:
  """The weights the stage reads but does not train, and their digests.

  Raises UserError where they are not trained to their end.
  """
  if not needs_dvae(stage):
    return {}, {}
  name = dvae_of(workdir)
  params, digest = workdir.weights(name)
  first = workdir.experiment().stage(name)
  if not first.frozen and (at := workdir.step(name)) < first.steps:
    raise UserError(
      f"the stage {name}, whose codes are wanted, stands at step {at} of {first.steps}: train it to its end first, "
      f"with --only {name} or without --only"
    )
  return {} if stage.objective.dvae is None else {"dvae": params}, {"dvae": digest}


def check_begun_on(name: str, workdir: Workdir, hashes: dict[str, str]) -> None:
  """Raises UserError where the stage was begun on codes of other dVAE weights than there are now."""
  begun = json.loads(workdir.checkpoints(name).files()["hashes.json"])
  if begun.get("dvae") != hashes.get("dvae"):
    raise UserError(
      f"stage {name} was begun on codes of another dVAE: remove {workdir.place / name} to train it anew, "
      "or put that dVAE back"
    )


def needs_dvae(stage: Stage) -> bool:
  """Whether the stage reads codes, or encodes pictures in its step."""
  if isinstance(stage.objective, FirstStage):
    return False
  return stage.objective.dvae is not None or isinstance(stage.examples, Codes)


def dvae_of(workdir: Workdir) -> str:
  """The stage that makes image tokens. Raises UserError where the run has none."""
  name = dvae_stage(workdir.experiment())
  if name is None:
    raise UserError(f"{workdir} has no dVAE stage: name the workdir of a run that has one")
  return name
