"""Figures of what a finished run draws, each made with the smallest difference that would matter.

    composition   how probably all that a held-out caption says is so in its picture, as pixels are read
    aspects       the same of each aspect that it speaks of: number, shapes, colours, sizes, textures, relations, ground
    clip_score    how well CLIP finds pictures and captions to fit, by the run's own
    fd_clip       Frechet distance of drawn and real pictures in CLIP's space, both blurred alike

An arm's setting is a `drawing.Drawing`; None draws as the paper does.

N pictures, H W pixels.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dalle_jax.ablations.drawing import NO_CLIP, Drawing, Drawn, check, drawn, of_run, side
from dalle_jax.ablations.pack import Metric
from dalle_jax.data.prepared import open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import examples, frechet
from dalle_jax.evaluation.metrics.blur import blurred
from dalle_jax.sampling import rerank
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.workdir import Workdir

STAGE = "transformer"
PICTURES = 256  # that CLIP looks at together


def composition(*, smallest: float) -> Metric:
  """How probably all that a caption says is so in the best of n pictures of it; more is better."""
  share = lambda found, how: _of_best(found, how, found.right_CS)  # noqa: E731
  return _metric("captions drawn right", "of all captions", smallest, share, lower=False)


def aspects(*, smallest: float) -> Metric:
  """Of the aspects that a caption speaks of, the share that is right in the best of n pictures of it; more is better.

  Where a small model draws one caption in fifty right in all it says, this one still tells runs apart.
  """
  share = lambda found, how: _of_best(found, how, found.share_CS)  # noqa: E731
  return _metric("aspects drawn right", "of those that captions speak of", smallest, share, lower=False)


def clip_score(*, smallest: float) -> Metric:
  """100 times the cosine of the best of n pictures and its caption, by the run's own CLIP; more is better."""

  def score(found: Drawn, how: Drawing) -> float:
    cosine_CS = found.cosines()
    return float(np.maximum(100 * rerank.best_of(cosine_CS, cosine_CS, how.best_of), 0).mean())

  return _metric("CLIP score", "of 100", smallest, score, lower=False)


def fd_clip(*, smallest: float) -> Metric:
  """Frechet distance of all that is drawn to the held-out pictures, all blurred by the setting's radius.

  It is of unit vectors, and too high by a bias that falls as one over the pictures: not for arms that draw, or keep,
  different numbers of them. Raises UserError for a setting that keeps the best of several.
  """

  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    how, run = setting or Drawing(), (workdir.path, workdir.step(STAGE))
    if how.best_of > 1:
      raise UserError(f"the Frechet distance of the best of {how.best_of} would be of fewer pictures than others'")
    images_CSHWC = drawn(*run, seed, how.draw()).images_CSHWC
    images_NHWC = images_CSHWC.reshape(-1, *images_CSHWC.shape[2:])
    return frechet.between(_statistics(of_run(*run), images_NHWC, how.blur), _of_real(*run, how.blur))

  name = "Frechet distance in CLIP's space"
  return Metric(name=name, unit="of unit vectors", smallest=smallest, measure=measure, check=check)


def _of_best(found: Drawn, how: Drawing, value_CS: np.ndarray) -> float:
  """The mean of a value of the best of n by CLIP, or of any where n is 1."""
  return float((value_CS if how.best_of == 1 else rerank.best_of(found.cosines(), value_CS, how.best_of)).mean())


def _metric(name: str, unit: str, smallest: float, of: Callable[[Drawn, Drawing], float], *, lower: bool) -> Metric:
  def measure(workdir: Workdir, setting: Any, seed: int) -> float:
    how = setting or Drawing()
    return of(drawn(workdir.path, workdir.step(STAGE), seed, how.draw()), how)

  return Metric(name=name, unit=unit, smallest=smallest, measure=measure, lower=lower, check=check)


@functools.lru_cache(maxsize=8)
def _of_real(path: Path, step: int, radius: float) -> frechet.Statistics:
  """The statistics of all held-out pictures."""
  workdir = Workdir.open(path)
  prepared = open_prepared(workdir.experiment().data)
  split = examples.held_out_split(prepared, None)
  count = len(prepared.source(split))
  found = examples.first(prepared, split, count, size=side(workdir), words=workdir.tokenizer())
  return _statistics(of_run(path, step), found.images_NHWC, radius)


def _statistics(drawer: Drawer, images_NHWC: UInt8[np.ndarray, "N H W 3"], radius: float) -> frechet.Statistics:
  if drawer.clip is None:
    raise UserError(NO_CLIP)
  seen_NHWC = blurred(images_NHWC, radius * images_NHWC.shape[1] / 256)
  parts = (seen_NHWC[i : i + PICTURES] for i in range(0, len(seen_NHWC), PICTURES))
  parts = [np.asarray(rerank.embed_pictures(drawer.clip_params, drawer.clip, part)) for part in parts]
  return frechet.of(np.concatenate(parts))
