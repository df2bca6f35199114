"""Figures of a finished run that packs are decided by, each made with the smallest difference that would matter.

All are of the same held-out examples, the first 512 of the split that was trained on least, whatever the arm.

B batch, V codebook.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dalle_jax import evaluate
from dalle_jax.ablations import logged
from dalle_jax.ablations.pack import Metric
from dalle_jax.data.images import CentreCrop
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.evaluation import examples, reconstruction, report
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.sampling.devices import Devices
from dalle_jax.workdir import Workdir

EXAMPLES = 512
BATCH = 32
LAST = 0.1  # the share of a run's steps that its final training loss is the mean of


def image_loss(*, smallest: float, stage: str = "transformer", split: str | None = None) -> Metric:
  """Held-out cross-entropy of a transformer's image tokens, in nats a token; split: None takes that of all others."""
  return _loss(f"image loss, {split or 'held out'}", "nats a token", smallest, stage, "loss_image", split)


def text_loss(*, smallest: float, stage: str = "transformer", pads: bool = False) -> Metric:
  """Held-out cross-entropy of its text tokens; pads: whether absent ones count."""
  name, key = ("with pads", "loss_text") if pads else ("without pads", "loss_text_no_pads")
  return _loss(f"text loss {name}, held out", "nats a token", smallest, stage, key)


def training_loss(*, smallest: float, stage: str = "transformer", key: str = "loss", unit: str = "nats") -> Metric:
  """Mean of a training metric over the last tenth of the run's lines; of lines not finite see `logged.mean`."""

  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    lines = logged.column(workdir, stage, key)
    return logged.mean(lines[-max(1, round(LAST * len(lines))) :])

  name = f"{key.replace('_', ' ')}, the last tenth of training"
  return Metric(name=name, unit=unit, smallest=smallest, measure=measure)


def left_out(*, smallest: float, stage: str = "transformer") -> Metric:
  """The share of a run's updates that were left out, not finite or spikes."""

  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    done = logged.column(workdir, stage, "step")[-1]
    return logged.column(workdir, stage, "skipped_total")[-1] / done

  return Metric(name="updates left out", unit="of all", smallest=smallest, measure=measure)


def nll(*, smallest: float, stage: str = "dvae") -> Metric:
  """Negative log-likelihood of pixels decoded from a dVAE's most likely codes."""
  return _bound("NLL of the likely codes", "nats a sub-pixel", smallest, stage, lambda found: found["nll"])


def elbo_hard(*, smallest: float, stage: str = "dvae") -> Metric:
  """The true bound at beta = 1, with hard codes that are drawn; more is better."""
  return _bound("bound with hard codes", "nats a sub-pixel", smallest, stage, lambda found: found["elbo_hard"], False)


def elbo_gap(*, smallest: float, stage: str = "dvae") -> Metric:
  """How much better the relaxed bound looks than the true one: what a lower final temperature is to close."""

  def gap(found: dict[str, float]) -> float:
    return abs(found["elbo_relaxed"] - found["elbo_hard"])

  return _bound("gap of relaxed and hard bound", "nats a sub-pixel", smallest, stage, gap)


def outside(*, smallest: float, stage: str = "dvae") -> Metric:
  """The share of the likelihood's mass that is on no pixel, of pictures decoded from a dVAE's most likely codes."""
  return _bound("mass on no pixel", "of all", smallest, stage, lambda found: found["outside"])


def psnr(*, smallest: float, stage: str = "dvae") -> Metric:
  """PSNR of pictures decoded from the most likely codes of a first stage of any kind; more is better."""
  return _codes("PSNR", "dB", smallest, stage, lambda found: found.psnr, lower=False)


def usage(*, smallest: float, stage: str = "dvae") -> Metric:
  """The share of the codebook that the held-out pictures use at all; more is better."""

  def share(found: reconstruction.Reconstruction) -> float:
    return found.used / len(found.counts_V)

  return _codes("codes in use", "of all codes", smallest, stage, share, lower=False)


def perplexity(*, smallest: float, stage: str = "dvae") -> Metric:
  """exp of the entropy of the codes' frequencies; more is better."""
  return _codes("perplexity of the codes", "codes", smallest, stage, lambda found: found.perplexity, lower=False)


def _loss(name: str, unit: str, smallest: float, stage: str, key: str, split: str | None = None) -> Metric:
  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    return _losses(workdir.path, stage, workdir.step(stage), split)[key]

  def check(prepared: Prepared) -> None:
    examples.held_out_split(prepared, split)

  return Metric(name=name, unit=unit, smallest=smallest, measure=measure, check=check)


def _bound(
  name: str, unit: str, smallest: float, stage: str, of: Callable[[dict[str, float]], float], lower: bool = True
) -> Metric:
  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    return of(_bounds(workdir.path, stage, workdir.step(stage)))

  return Metric(name=name, unit=unit, smallest=smallest, measure=measure, lower=lower)


def _codes(
  name: str, unit: str, smallest: float, stage: str, of: Callable[[reconstruction.Reconstruction], float], lower: bool
) -> Metric:
  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    del setting, seed
    return of(_reconstructed(workdir.path, stage, workdir.step(stage)))

  return Metric(name=name, unit=unit, smallest=smallest, measure=measure, lower=lower)


@functools.lru_cache(maxsize=2)
def _losses(path: Path, stage: str, step: int, split: str | None) -> dict[str, float]:
  """A stage's held-out losses, in batches of the size it was trained with, over the mesh that it was trained on."""
  del step
  workdir = Workdir.open(path)
  prepared, devices = open_prepared(workdir.experiment().data), evaluate.over(workdir, workdir.experiment().mesh)
  split = examples.held_out_split(prepared, split)
  stages = evaluate.load(workdir, devices)
  chosen = {name: each for name, each in stages.items() if name == stage or isinstance(each.objective, FirstStage)}
  told = lambda what, done, total: None  # noqa: E731
  return report.held_out_losses(chosen, prepared, split, workdir.tokenizer(), told, devices)[stage]


@functools.lru_cache(maxsize=2)
def _bounds(path: Path, stage: str, step: int) -> dict[str, float]:
  """What `DvaeElbo.evaluate` says of the held-out pictures, at the temperature of the run's end."""
  workdir = Workdir.open(path)
  objective, params = workdir.experiment().stage(stage).objective, workdir.weights(stage)[0]
  measured = jax.jit(objective.evaluate)
  found = []
  for i, images_BHWC in enumerate(held_out_pictures(workdir, stage)):
    key = jax.random.fold_in(jax.random.key(0), i)
    found.append(jax.device_get(measured(params, {"image": Devices().put(images_BHWC)}, key, np.int32(step))[0]))
  return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


@functools.lru_cache(maxsize=2)
def _reconstructed(path: Path, stage: str, step: int) -> reconstruction.Reconstruction:
  """What a first stage keeps of the held-out pictures."""
  del step
  workdir = Workdir.open(path)
  params = workdir.weights(stage)[0]
  model = workdir.experiment().stage(stage).objective.model
  return reconstruction.measure(params, model, held_out_pictures(workdir, stage))


def held_out_pictures(workdir: Workdir, stage: str, batch: int = BATCH) -> list[np.ndarray]:
  """The held-out pictures of a first stage as uint8[B, H, W, 3], in equal batches; what is over is left out."""
  prepared = open_prepared(workdir.experiment().data)
  source = prepared.source(examples.held_out_split(prepared, None))
  crop = CentreCrop(size=workdir.experiment().stage(stage).objective.model.image)
  rows = min(EXAMPLES, len(source))
  size = min(batch, rows)
  images_NHWC = np.stack([crop(source[row]["image"], np.random.default_rng(0)) for row in range(rows)])
  return [images_NHWC[begin : begin + size] for begin in range(0, rows - size + 1, size)]
