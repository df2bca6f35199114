"""Retrieval: is the picture that a caption belongs to among those nearest to the picture drawn from it?

Where no judge reads pictures, this tells a drawing of the caption from one of something else. Nearness is the squared
distance of pixels at 32x32; a rank of 1 says that no candidate is nearer than the true picture.

C captions, M candidates, H W pixels, D sub-pixels of a small picture.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from dalle_jax.evaluation.intervals import Proportion, wilson

SIDE = 32


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Retrieved:
  """One kind of drawings of one split's captions: the rank of each caption's true picture among the candidates."""

  split: str
  pictures: str
  ranks_C: Int[np.ndarray, " C"]
  candidates: int

  def within(self, nearest: int = 10) -> Proportion:
    """How many true pictures are among the `nearest`."""
    return wilson(int((self.ranks_C <= nearest).sum()), len(self.ranks_C))

  def chance(self, nearest: int = 10) -> float:
    """What any other picture would reach on average."""
    return min(1.0, nearest / self.candidates)


def ranks(
  drawn_CHWC: UInt8[np.ndarray, "C H W 3"],
  candidates_MHWC: UInt8[np.ndarray, "M h w 3"],
  true_C: Int[np.ndarray, " C"],
) -> Int[np.ndarray, " C"]:
  """1 + how many candidates are nearer to each drawing than its true one, `candidates_MHWC[true_C]`."""
  drawn_CD, candidates_MD = small(drawn_CHWC), small(candidates_MHWC)
  squares_M = np.square(candidates_MD).sum(axis=1)
  # Without the drawing's own square, which is the same for all candidates.
  distance_CM = squares_M[None] - 2 * drawn_CD @ candidates_MD.T
  own_C1 = np.take_along_axis(distance_CM, true_C[:, None], axis=1)
  return 1 + (distance_CM < own_C1).sum(axis=1)


def small(images_NHWC: UInt8[np.ndarray, "N H W 3"]) -> Float[np.ndarray, "N D"]:
  """The pictures at 32x32, by averaging, as rows of float64 in [0, 1]."""
  if images_NHWC.shape[1:3] != (SIDE, SIDE):
    resized = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX) for image in images_NHWC]
    images_NHWC = np.stack([np.asarray(image) for image in resized])
  return images_NHWC.reshape(len(images_NHWC), -1) / 255


def as_text(rows: list[Retrieved], nearest: int = 10) -> str:
  """A line for each kind of drawings."""
  return "\n".join(
    f"{row.split}: the true picture is among the {nearest} nearest of {row.candidates}, {row.pictures}: "
    f"{row.within(nearest)} of {len(row.ranks_C)} captions (chance {100 * row.chance(nearest):.2f} %)"
    for row in rows
  )
