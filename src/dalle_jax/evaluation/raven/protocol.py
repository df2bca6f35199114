"""The blog's protocol on Raven's matrices: the matrix without its last panel is given, and the corner drawn by argmax.

    caption                 "a sequence of geometric shapes."
    picture                 the matrix with an empty corner, encoded by the dVAE, its codes given outside the corner
    corner                  the most likely code each time, one try, nothing ranked
    right                   as `judge` compares the decoded corner with the true panel

What the reader should hold it against: the ceiling, the same judge on the dVAE's own reconstruction of the whole true
matrix, and what copying the panel to the left, or the one above, would get.

N items, C of a batch, T text positions, P codes of a picture, S S pixels.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax.data.raven import items as items_lib
from dalle_jax.data.raven import rules
from dalle_jax.data.raven.items import Item, Layout
from dalle_jax.evaluation.raven.judge import Verdict, judge
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.prompts import Region

ARGMAX = SamplingConfig(temperature=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
  """An item, the picture that was given and the one completed, and what the judge says of it.

  ceiling: what it says of the dVAE's reconstruction of the true matrix.
  """

  item: Item
  given_SSC: UInt8[np.ndarray, "S S 3"]
  completed_SSC: UInt8[np.ndarray, "S S 3"]
  verdict: Verdict
  ceiling: Verdict

  @property
  def left_is_right(self) -> bool:
    """Whether the answer is a copy of the panel to the left of it."""
    return self.item.rows[-1][-2] == self.item.answer

  @property
  def above_is_right(self) -> bool:
    """Whether the answer is a copy of the panel above it."""
    return self.item.rows[-2][-1] == self.item.answer


def choose(layout: Layout, *, count: int, seed: int) -> list[Item]:
  """`count` different matrices of each set, spread over its kinds of rule, and then the same ones inverted.

  Raises UserError where a kind has not that many.
  """
  plain: list[Item] = []
  for letter in rules.SETS:
    kinds = [kind for kind in rules.KINDS if kind.letter == letter]
    for i, kind in enumerate(kinds):
      plain += items_lib.draw_many(kind, len(range(i, count, len(kinds))), layout, seed=seed)
  return plain + [dataclasses.replace(item, inverted=True) for item in plain]


def complete(
  drawer: Drawer,
  text_T: Int[np.ndarray, " T"],
  items: Sequence[Item],
  *,
  progress: Callable[[int], object] = lambda done: None,
) -> list[Outcome]:
  """Draws the corner of every item. text_T: the caption's ids; progress: told how many more are done."""
  drawer = dataclasses.replace(drawer, clip=None, clip_params=None)
  found: list[Outcome] = []
  for first in range(0, len(items), drawer.batch):
    batch = items[first : first + drawer.batch]
    unsolved_CSSC = np.stack([item.unsolved() for item in batch])
    given_CP = np.stack([_part(item).given(codes_hw) for item, codes_hw in zip(batch, drawer.encode(unsolved_CSSC))])
    text_CT = np.tile(text_T, (len(batch), 1))
    drawn = drawer.draw(text_CT, num=1, seed=0, sampling=ARGMAX, given_CP=given_CP)  # argmax has no use for a seed
    whole_CSSC = drawer.decode(_flat(drawer.encode(np.stack([item.pixels() for item in batch]))))
    for item, given_SSC, each, whole_SSC in zip(batch, unsolved_CSSC, drawn, whole_CSSC):
      completed_SSC = each.images_KHWC[0]
      found.append(
        Outcome(
          item=item,
          given_SSC=given_SSC,
          completed_SSC=completed_SSC,
          verdict=judge(item.cut(completed_SSC), item),
          ceiling=judge(item.cut(whole_SSC), item),
        )
      )
    progress(len(batch))
  return found


def _part(item: Item) -> Region:
  top, left, bottom, right = item.region
  return Region(top=top, left=left, bottom=bottom, right=right)


def _flat(codes_Chw: Int[np.ndarray, "C h w"]) -> Int[np.ndarray, "C P"]:
  return codes_Chw.reshape(len(codes_Chw), -1)
