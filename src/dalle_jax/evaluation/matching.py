"""Matching: of every picture against every caption, does the highest score stand where they belong together?

P pictures, C captions, Q what is asked with (either of them), A what is to be found (the other).
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from dalle_jax.evaluation.intervals import Proportion, wilson
from dalle_jax.sampling.likelihood import caption_given_image


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
  """One direction, by one kind of score: of each that was asked with, the rank of the best that belongs to it.

  candidates: how many there were to find; belong_Q: how many of them belong.
  """

  direction: str
  by: str
  ranks_Q: Int[np.ndarray, " Q"]
  belong_Q: Int[np.ndarray, " Q"]
  candidates: int

  def top(self, most: int) -> Proportion:
    """How often one that belongs is among the first `most`."""
    return wilson(int((self.ranks_Q <= most).sum()), len(self.ranks_Q))

  def chance(self, most: int) -> float:
    """How often it would be in an order drawn at random."""
    none = [
      math.comb(self.candidates - int(belong), most) / math.comb(self.candidates, most) if most < self.candidates else 0
      for belong in self.belong_Q
    ]
    return 1 - sum(none) / len(none)


def ranks(scores_QA: Float[np.ndarray, "Q A"], right_QA: Bool[np.ndarray, "Q A"]) -> Int[np.ndarray, " Q"]:
  """1 + how many that do not belong score as high as the best that does, or higher: a tie is no success."""
  best_Q1 = np.where(right_QA, scores_QA, -np.inf).max(axis=1, keepdims=True)
  return 1 + (~right_QA & (scores_QA >= best_Q1)).sum(axis=1)


def match(
  image_PC: Float[np.ndarray, "P C"], without_P: Float[np.ndarray, " P"], right_PC: Bool[np.ndarray, "P C"]
) -> tuple[Matched, ...]:
  """From pictures to captions by ln p(picture | caption), which the others order alike; from captions to pictures

  by likelihood    ln p(picture | caption), which favours pictures that are likely with any caption
  by difference    what of it is above ln p(picture), that with a caption of pads alone
  by Bayes' rule   ln p(caption | picture) among these captions, all alike before: needs no caption of pads
  """
  bayes_PC = np.asarray(caption_given_image(jnp.asarray(image_PC, jnp.float32)))
  back = {"likelihood": image_PC, "difference": image_PC - without_P[:, None], "Bayes' rule": bayes_PC}
  found = [("picture to caption", "likelihood", image_PC, right_PC)]
  found += [("caption to picture", by, scores_PC.T, right_PC.T) for by, scores_PC in back.items()]
  return tuple(
    Matched(
      direction=direction,
      by=by,
      ranks_Q=ranks(scores_QA, right_QA),
      belong_Q=right_QA.sum(axis=1),
      candidates=right_QA.shape[1],
    )
    for direction, by, scores_QA, right_QA in found
  )
