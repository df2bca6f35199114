"""What looks at pictures for the figures asked for: Inception and CLIP with their weights, and what to know of them."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float, UInt8

from dalle_jax import draw, reference, sharding
from dalle_jax.convert.published import CLIP, CLIP_WORDS, INCEPTION
from dalle_jax.errors import UserError
from dalle_jax.evaluation import exclusion, features
from dalle_jax.evaluation import reference as statistics
from dalle_jax.evaluation.metrics.networks import Contrastive, Features, Networks
from dalle_jax.evaluation.reference import Reference
from dalle_jax.evaluation.report import Trained
from dalle_jax.evaluation.resize import named
from dalle_jax.measure.asked import DVAE, OF_CLIP, OF_INCEPTION, SAMPLES
from dalle_jax.measure.run import Run, model_digest
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.sampling import ranking, rerank

OWN_CLIP = "the run's own CLIP"


def networks(run: Run) -> Networks:
  """The networks that the metrics need. Raises UserError saying which weights lack, and where they come from."""
  found = Networks()
  if wanted := run.asked.of(OF_INCEPTION):
    if not run.asked.inception:
      raise UserError(
        f"{wanted[0]} looks through Inception v3: name its weights, --inception {INCEPTION.file} (to be had at "
        f"{INCEPTION.url}), or what `dalle convert` made of them"
      )
    found = dataclasses.replace(found, inception=_inception(run))
  if wanted := run.asked.of(OF_CLIP):
    own = run.clip()
    if not run.asked.clip and own is None:
      raise UserError(
        f"{wanted[0]} looks through CLIP, and none is trained in this run: name a published one, --clip DIR, which "
        f"`dalle convert` makes of {CLIP.file} and {CLIP_WORDS.file} (to be had at {CLIP.url}, {CLIP_WORDS.url})"
      )
    found = dataclasses.replace(found, clip=_published(run) if run.asked.clip else _own(run, own[1]))
  return found


def references(run: Run) -> dict[float | int, Reference]:
  """The statistics named, by the radius that their pictures were blurred by. Raises UserError for two of one radius."""
  found: dict[float | int, Reference] = {}
  for file in run.asked.references:
    read = statistics.load(file)
    radius = (read.protocol or {}).get("blur", 0)
    if radius in found:
      raise UserError(f"two references of blur radius {radius:g}: name one for each radius")
    if radius not in run.asked.blur:
      raise UserError(f"--reference {file} is of pictures blurred by {radius:g}, and no such figure is asked for")
    found[radius] = read
  return found


def excluded(run: Run) -> Run:
  """The run with the exclusion list asked for. Raises UserError where it is of other data."""
  if not run.asked.exclude:
    return run
  found = exclusion.read(run.asked.exclude)
  keep_N = exclusion.keep(found, run.prepared, run.split)
  facts = {
    "training": found.training["digest"],
    "embedding": found.embedding,
    "threshold": found.threshold,
    "pictures": len(found.excluded),
  }
  return dataclasses.replace(run, keep_N=keep_N, exclusion=facts)


def notes(run: Run) -> Iterator[str]:
  """What a reader must know of the figures."""
  several = any(setting.best_of > 1 for _, setting in run.asked.settings)
  ranked = ranking.parse(run.asked.rank) if run.asked.rank else {"clip": 1.0}
  scores = ranking.PUBLISHED if run.asked.clip else "clip"
  if several and scores in ranked and run.asked.of(OF_CLIP):
    other = "choose by another, --rank" if run.asked.clip else "name another, --clip"
    yield f"the CLIP that gives the scores chose the best of several, too: they are then too high; {other}"
  if run.asked.of(DVAE) and run.asked.stage and not isinstance(run.first_stage()[1].objective, DvaeElbo):
    yield "nll and elb are told of the published objective alone, and another trained this first stage"
  for file in run.asked.references:
    crop, side = (statistics.load(file).protocol or {}).get("crop"), run.first_stage()[1].objective.model.image
    if crop != side:
      told = "whole pictures" if crop is None else f"pictures of {crop} pixels"
      yield f"{file} is of {told}, and those drawn have {side}: `dalle reference --crop {side}` makes one of such"
  if run.asked.of(SAMPLES):
    for _, setting in run.asked.settings:
      yield from draw.untold(run.workdir, setting.sampling, ranked if setting.best_of > 1 else ())
  yield from draw.caveats(run.workdir)


def _inception(run: Run) -> Features:
  network, resize = reference.network(run.asked.inception), named(run.asked.resize)
  where = run.devices.mesh and sharding.replicated(run.devices.mesh)
  params = jax.device_put(network.params, where)

  def look(images_BHWC: UInt8[np.ndarray, "B H W 3"]) -> tuple[np.ndarray, np.ndarray | None]:
    parts = []
    for rows in run.devices.batches(len(images_BHWC), run.asked.batch):
      parts.append(features.features(params, images_BHWC[rows], resize, run.asked.features, run.devices))
    seen_BD, logits = zip(*parts)
    logits_BK = None if logits[0] is None else np.concatenate(logits)[: len(images_BHWC)]
    return np.concatenate(seen_BD)[: len(images_BHWC)], logits_BK

  about = {"network": network.kind, "weights": network.digest, "dim": run.asked.features, **resize.protocol()}
  return Features(about=about, look=look, dim=run.asked.features // network.config.thin)


def _own(run: Run, stage: Trained) -> Contrastive:
  cfg, params, words = stage.objective.model, stage.params, run.words

  def pictures(images_BHWC: UInt8[np.ndarray, "B H W 3"]) -> Float[np.ndarray, "B E"]:
    parts = [
      np.asarray(rerank.embed_pictures(params, cfg, run.devices.put(images_BHWC[rows])))
      for rows in run.devices.batches(len(images_BHWC), run.asked.batch)
    ]
    return np.concatenate(parts)[: len(images_BHWC)]

  def captions(texts: Sequence[str]) -> Float[np.ndarray, "N E"]:
    text_NT = np.stack([np.asarray(words.ids(text)) for text in texts])
    parts = [
      np.asarray(rerank.embed_captions(params, cfg, run.devices.put(text_NT[rows])))
      for rows in run.devices.batches(len(texts), run.asked.batch)
    ]
    return np.concatenate(parts)[: len(texts)]

  return Contrastive(
    about={"network": OWN_CLIP, "sha256": stage.digest, "model": model_digest(stage)},
    pictures=pictures,
    captions=captions,
  )


def _published(run: Run) -> Contrastive:
  clip = run.published_clip
  return Contrastive(about=clip.about(), pictures=clip.embed_images, captions=clip.embed_texts)
