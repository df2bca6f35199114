"""R-precision: of a drawn picture's own caption and others, is its own the nearest?

By CLIP's cosines, as in Park et al. 2021, after the protocol of AttnGAN (Xu et al. 2018): each picture is asked with
among its own caption and 99 others, drawn at random from all that are not the same text. The draw depends on the seed,
the caption's and the picture's numbers and how many texts there are, on nothing else: an evaluation that is cut off and
goes on finds the same. Beside it, the rank among all texts. A text as near as the own one counts as nearer.

C captions, S pictures of each, M different texts, E CLIP's space, K candidates.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dalle_jax.evaluation.clip_score import unit
from dalle_jax.evaluation.intervals import Proportion, wilson

CANDIDATES = 100
ROWS = 1024  # of cosines with all texts that are in memory at the same time


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
  """The rank of each picture's own caption among `candidates`, 1 for the nearest."""

  ranks_CS: Int[np.ndarray, "C S"]
  candidates: int

  def within(self, nearest: int = 1) -> Proportion:
    """How often it is among the `nearest`, counted by captions: a caption's pictures are alike. 1: R-precision."""
    return wilson(float((self.ranks_CS <= nearest).mean(axis=1).sum()), len(self.ranks_CS))

  def chance(self, nearest: int = 1) -> float:
    """What pictures of nothing in particular would reach."""
    return min(1.0, nearest / self.candidates)


def among_drawn(
  pictures_CSE: Float[np.ndarray, "C S E"],
  texts_ME: Float[np.ndarray, "M E"],
  own_C: Int[np.ndarray, " C"],
  *,
  seed: int,
  candidates: int = CANDIDATES,
  first: int = 0,
) -> Ranked:
  """Ranks among the own text and `candidates` - 1 others.

  first: the number of the first caption, where these are a part of all. Raises ValueError where there are fewer texts
  than candidates.
  """
  texts = len(texts_ME)
  if not 2 <= candidates <= texts:
    raise ValueError(f"got {candidates} candidates and {texts} different captions: from 2 to {texts} can be drawn")
  pictures_CSE, texts_ME = unit(pictures_CSE), unit(texts_ME)
  ranks_CS = np.zeros(pictures_CSE.shape[:2], np.int64)
  for c, s in np.ndindex(*ranks_CS.shape):
    others_K = np.random.default_rng([seed, first + c, s]).choice(texts - 1, candidates - 1, replace=False)
    among_K = np.concatenate([own_C[c : c + 1], others_K + (others_K >= own_C[c])])
    cosines_K = texts_ME[among_K] @ pictures_CSE[c, s]
    ranks_CS[c, s] = (cosines_K >= cosines_K[0]).sum()
  return Ranked(ranks_CS=ranks_CS, candidates=candidates)


def among_all(
  pictures_CSE: Float[np.ndarray, "C S E"], texts_ME: Float[np.ndarray, "M E"], own_C: Int[np.ndarray, " C"]
) -> Ranked:
  """Ranks among all texts."""
  captions, samples, width = pictures_CSE.shape
  rows_RE, texts_ME = unit(pictures_CSE).reshape(-1, width), unit(texts_ME)
  own_R = np.repeat(own_C, samples)
  ranks_R = np.zeros(len(rows_RE), np.int64)
  for start in range(0, len(rows_RE), ROWS):
    part = slice(start, start + ROWS)
    cosines_RM = rows_RE[part] @ texts_ME.T
    own_R1 = np.take_along_axis(cosines_RM, own_R[part, None], axis=1)
    # The own one is as near as itself, which makes ranks begin at 1.
    ranks_R[part] = (cosines_RM >= own_R1).sum(axis=1)
  return Ranked(ranks_CS=ranks_R.reshape(captions, samples), candidates=len(texts_ME))
