"""Is a completed corner a close visual match of the panel that belongs there? (paper 8.2; what is close is ours)

    distance(x, p) = RMS(x - p) / RMS(truth - empty)      over all sub-pixels of the corner

so that 0 is the panel itself and 1 is as far from the truth as an empty panel is, however much ink there is. A corner
is right where it is at most CLOSE from the truth and no other panel of the alphabet is as near: blurred it stays right,
and a neighbour's panel, nothing, the inverse, or the right panel in the wrong place does not pass.

S S pixels of a corner.
"""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from dalle_jax.data.raven import drawing, panels
from dalle_jax.data.raven.items import Item
from dalle_jax.data.raven.panels import Panel

CLOSE = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """distance: from the truth; read: the panel of the alphabet that is nearest."""

  right: bool
  distance: float
  read: Panel


def judge(corner_SSC: UInt8[np.ndarray, "S S 3"], item: Item) -> Verdict:
  """Compares a corner with the item's answer and with all else that could stand there."""
  side = len(corner_SSC)
  known = panels.alphabet(item.answer)
  ink = _rms(drawing.panel(item.answer, side, item.inverted), drawing.blank(side, item.inverted))
  distances = [_rms(corner_SSC, drawing.panel(each, side, item.inverted)) / ink for each in known]
  nearest, truth = int(np.argmin(distances)), distances[known.index(item.answer)]
  return Verdict(right=known[nearest] == item.answer and truth <= CLOSE, distance=truth, read=known[nearest])


def _rms(one_SSC: np.ndarray, other_SSC: np.ndarray) -> float:
  return float(np.sqrt(np.mean(np.square(one_SSC.astype(np.float32) - other_SSC))))
