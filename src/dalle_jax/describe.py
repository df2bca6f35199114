"""Captions of pictures that a person has: written by a transformer trained image-first, ranked by their likelihood.

C pictures, S captions of each, T text positions, P image tokens.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, PyTree, UInt8

from dalle_jax import evaluate
from dalle_jax.data.images import CentreCrop
from dalle_jax.errors import UserError
from dalle_jax.experiment import dvae_stage
from dalle_jax.models import image_tokenizer, transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.caption import check_describes, tokens, write
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.devices import Devices
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir, laid_out

Progress = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
  """What was written of a picture. loglik: ln of its likelihood; tokens: its own and its end; times: it was drawn."""

  text: str
  loglik: float
  tokens: int
  times: int

  @property
  def score(self) -> float:
    """The mean over its tokens, by which captions are ranked: a sum would prefer those that say less."""
    return self.loglik / self.tokens


def captions(
  workdir: Workdir,
  images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
  *,
  num: int,
  keep: int,
  sampling: SamplingConfig,
  seed: int,
  batch: int = 256,
  mesh: MeshShape | None = None,
  progress: Progress = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> list[list[Caption]]:
  """Of each picture `num` captions are drawn, and of those that differ the `keep` with the best scores are returned.

  A picture is cut to a square around its middle and scaled to the dVAE's size. batch: captions drawn at a time; mesh:
  of devices that write, one if None; say: told in a line where a stage is not trained to its end. Raises UserError
  where the run's transformer is text-first, or left the pads out of its targets, where a stage has no weights, the
  tokenizer is not the one it was trained with, or the devices make no such mesh.
  """
  name, stage = _writer(workdir)
  model, words = stage.objective.model, workdir.tokenizer()
  devices = evaluate.over(workdir, mesh)
  params = transformer.in_compute_dtype(_weights(workdir, name, devices), model)
  workdir.check_tokenizer(name)
  codes_CP = _codes(workdir, images, batch, devices)
  if not stage.frozen and (step := workdir.step(name)) < stage.steps:
    say(f"stage {name} is at step {step} of {stage.steps}: its training has not ended")
  done, total = 0, num * len(images)
  progress("writing captions", 0, total)

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("writing captions", done, total)

  how = {"model": model, "sampling": sampling, "words": words.size, "devices": devices}
  text_CST, loglik_CS = write(params, codes_CP, num=num, seed=seed, batch=batch, progress=tell, **how)
  tokens_CS = tokens(text_CST, model)
  return [_ranked(*each, words.decode)[:keep] for each in zip(text_CST, loglik_CS, tokens_CS)]


def _writer(workdir: Workdir) -> tuple[str, Any]:
  """The stage that writes captions."""
  stages = {
    name: stage for name, stage in workdir.experiment().stages.items() if isinstance(stage.objective, TransformerNll)
  }
  if not stages:
    raise UserError(f"{workdir} has no transformer: train experiments/demo_captions.py, or one with order image_first")
  image_first = [name for name, stage in stages.items() if stage.objective.model.order == "image_first"]
  name = next(iter(image_first or stages))
  check_describes(stages[name].objective.model)
  if not stages[name].objective.pad_targets:
    raise UserError(f"stage {name} was trained without pad_targets: it never learnt where a caption ends")
  return name, stages[name]


def _codes(
  workdir: Workdir, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], batch: int, devices: Devices
) -> Int[np.ndarray, "C P"]:
  name = dvae_stage(workdir.experiment())
  vae = workdir.experiment().stage(name).objective.model
  crop, rng = CentreCrop(size=vae.image), np.random.default_rng(0)
  params = _weights(workdir, name, devices)
  codes_CP = np.zeros((len(images), vae.grid**2), np.int32)
  for rows in devices.batches(len(images), batch):
    cropped_RHWC = np.stack([crop(images[row], rng) for row in rows])
    codes_CP[rows] = np.asarray(image_tokenizer.encode_images(params, vae, devices.put(cropped_RHWC))).reshape(
      len(rows), -1
    )
  return codes_CP


def _weights(workdir: Workdir, name: str, devices: Devices) -> PyTree:
  stage, mesh = workdir.experiment().stage(name), devices.mesh
  return workdir.weights(name, mesh and laid_out(stage, mesh, devices.rules))[0]


def _ranked(
  text_ST: np.ndarray, loglik_S: np.ndarray, tokens_S: np.ndarray, decode: Callable[[list[int]], str]
) -> list[Caption]:
  """The captions that differ, the best score first; of one that two spellings have, the likelier counts."""
  best: dict[str, Caption] = {}
  for ids, loglik, count in zip(text_ST.tolist(), loglik_S.tolist(), tokens_S.tolist()):
    text = _printable(decode(ids))
    new = Caption(text=text, loglik=loglik, tokens=count, times=1)
    old = best.get(text, dataclasses.replace(new, times=0))
    best[text] = dataclasses.replace(max(old, new, key=lambda each: each.score), times=old.times + 1)
  return sorted(best.values(), key=lambda each: -each.score)


def _printable(text: str) -> str:
  """Ids of single bytes may spell what moves a terminal's cursor, or nothing at all."""
  return "".join(each if each.isprintable() else "\ufffd" for each in text)
