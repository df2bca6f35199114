"""Evaluation pictures that training has seen, or something much like them: by neighbours in a space of pictures.

The paper (3.2) looks for the nearest training picture of each evaluation picture with a contrastive model that was
trained for that, sorts them by closeness, and puts a threshold by hand so low that few that are the same are missed.

    thumbnails    without any weights: 16 x 16 pixels less their mean, so that the cosine is the correlation of two
                  small pictures; finds copies that were scaled, re-coded, made brighter or of more contrast, and not
                  those that were mirrored, turned or cut elsewhere
    a CLIP        unit vectors of the middle squares by a trained image tower; close is also what shows the same things

N pictures, S S pixels of their middle squares, E a vector's length, K neighbours.
"""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, UInt8

from dalle_jax.data.images import CentreCrop
from dalle_jax.errors import UserError
from dalle_jax.evaluation import neighbours
from dalle_jax.evaluation.neighbours import Neighbours
from dalle_jax.evaluation.picture_sets import PictureSet
from dalle_jax.models import clip
from dalle_jax.sampling import rerank

THUMBNAIL = 16
READERS = 8
# In place of a contrast, in grey levels of 255: what has less than about that is flat, and all that is flat is alike.
FLAT = 1.0

Embed = Callable[[UInt8[np.ndarray, "N S S 3"]], Float[np.ndarray, "N E"]]
Progress = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
  """A space of pictures: its name, a digest of its network's weights (None without one), pixels a side that it reads.

  embed: pictures to vectors, of which only the direction counts.
  """

  name: str
  weights: str | None
  size: int
  embed: Embed

  def told(self) -> dict[str, str | int | None]:
    """What it is, for a file that says how pictures were compared."""
    return {"name": self.name, "weights": self.weights, "size": self.size}


def thumbnails() -> Embedding:
  """The space that needs no weights."""
  return Embedding(name=f"thumbnails of {THUMBNAIL}x{THUMBNAIL}", weights=None, size=THUMBNAIL, embed=_less_mean)


def by_clip(name: str, params: object, cfg: clip.Config, digest: str) -> Embedding:
  """The space of a CLIP of this project. name: what it is called where figures are told."""
  embed = lambda images_NSSC: np.asarray(rerank.embed_pictures(params, cfg, images_NSSC))  # noqa: E731
  return Embedding(name=name, weights=digest, size=cfg.image, embed=embed)


def find(
  training: PictureSet,
  evaluation: PictureSet,
  embedding: Embedding,
  *,
  count: int,
  batch: int = 256,
  progress: Progress = lambda what, done, total: None,
) -> Neighbours:
  """Of each evaluation picture the `count` training pictures nearest to it.

  Memory holds the evaluation pictures' vectors and a batch of pictures, however many training pictures there are.
  Raises UserError where both are the same pictures, StorageError where one can't be read.
  """
  if (training.digest, training.split) == (evaluation.digest, evaluation.split):
    raise UserError(f"{training} and {evaluation} are the same pictures: each would be its own duplicate")
  asked_NE = np.concatenate(list(_vectors(evaluation, "evaluation pictures", embedding, batch, progress)))
  among = _vectors(training, "training pictures", embedding, batch, progress)
  return neighbours.nearest(asked_NE, among, count)


def _vectors(
  pictures: PictureSet, what: str, embedding: Embedding, batch: int, progress: Progress
) -> Iterator[Float[np.ndarray, "N E"]]:
  """The vectors of a batch of pictures after the other; a last, smaller batch is filled up for the network."""
  crop, rng = CentreCrop(size=embedding.size), np.random.default_rng(0)
  batch = min(batch, pictures.count)
  progress(what, 0, pictures.count)
  with ThreadPoolExecutor(READERS) as pool:
    for first in range(0, pictures.count, batch):
      numbers = range(first, min(first + batch, pictures.count))
      cut = list(pool.map(lambda number: crop(pictures.picture(number), rng), numbers))
      filled_NSSC = np.stack(cut + [cut[-1]] * (batch - len(cut)))
      yield embedding.embed(filled_NSSC)[: len(cut)]
      progress(what, numbers.stop, pictures.count)


def _less_mean(images_NSSC: UInt8[np.ndarray, "N S S 3"]) -> Float[np.ndarray, "N E"]:
  flat_NE = images_NSSC.reshape(len(images_NSSC), -1).astype(np.float32)
  contrast_NE = flat_NE - flat_NE.mean(axis=1, keepdims=True)
  known_N1 = np.full((len(flat_NE), 1), FLAT * flat_NE.shape[1] ** 0.5, np.float32)
  return np.concatenate([contrast_NE, known_N1], axis=1)
