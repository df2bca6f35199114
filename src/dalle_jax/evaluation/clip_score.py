"""How well pictures fit their captions, by the cosines of CLIP's vectors.

    cosine      the mean over captions of the mean over their pictures
    CLIP score  the same of max(100 cos, 0) (Hessel et al. 2021 has 2.5 in place of 100)

torchmetrics' CLIPScore is max(100 x cosine, 0), cut off once and not for each pair. The two are equal where no cosine
is negative, which is so of a CLIP that is trained. The pictures of a caption are alike, so the interval is that of
captions: an average of each caption's pictures is one value.

C captions, S pictures of each, E CLIP's space.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from dalle_jax.evaluation.mean_interval import Mean, mean_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipScore:
  """score: in [0, 100]; cosine: in [-1, 1]; captions and pictures: how many there were; negative: cosines below 0."""

  score: Mean
  cosine: Mean
  captions: int
  pictures: int
  negative: int


def clip_score(pictures_CSE: Float[np.ndarray, "C S E"], captions_CE: Float[np.ndarray, "C E"]) -> ClipScore:
  """Of vectors of any length but 0. Raises ValueError for fewer than two captions."""
  cosine_CS = cosines(pictures_CSE, captions_CE)
  return ClipScore(
    score=mean_of(np.maximum(100 * cosine_CS, 0).mean(axis=1)),
    cosine=mean_of(cosine_CS.mean(axis=1)),
    captions=len(cosine_CS),
    pictures=cosine_CS.size,
    negative=int((cosine_CS < 0).sum()),
  )


def cosines(
  pictures_CSE: Float[np.ndarray, "C S E"], captions_CE: Float[np.ndarray, "C E"]
) -> Float[np.ndarray, "C S"]:
  """Of each picture and its own caption, in float64."""
  pictures_CSE, captions_CE = unit(pictures_CSE), unit(captions_CE)
  return np.einsum("cse,ce->cs", pictures_CSE, captions_CE)


def unit(vectors: Float[np.ndarray, "... E"]) -> Float[np.ndarray, "... E"]:
  """Vectors of length 1, in float64. Raises ValueError where one has no direction."""
  vectors = vectors.astype(np.float64)
  lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
  if not (np.isfinite(lengths) & (lengths > 0)).all():
    raise ValueError("a vector is zero or not finite, so it has no direction")
  return vectors / lengths
