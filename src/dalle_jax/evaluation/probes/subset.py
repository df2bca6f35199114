"""Some captions of a suite, by a seed: chosen so that a reader can change one word and keep the others.

Some words of each slot are taken with all their combinations, and what is then left of the number is drawn from all
other captions alike.
"""

import itertools
import math
import zlib

import numpy as np

from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes.suite import Caption, Suite, Template


def subset(suite: Suite, limit: int, seed: int) -> tuple[Caption, ...]:
  """`limit` captions of the suite, or all where it has no more, in the suite's order; the same for the same seed.

  What another suite holds makes no difference. Raises UserError for a limit under 1.
  """
  if limit < 1:
    raise UserError(f"got a limit of {limit} captions a suite, wanted at least 1")
  everything = tuple(suite.captions())
  if limit >= len(everything):
    return everything
  rng = np.random.default_rng([seed, zlib.crc32(suite.name.encode())])
  by_template = [[caption for caption in everything if caption.template is each] for each in suite.templates]
  taken: set[Caption] = set()
  for template, captions, share in zip(suite.templates, by_template, _shares([*map(len, by_template)], limit)):
    block = _block(template, share, rng)
    rest = [caption for caption in captions if caption not in block]
    more = rng.choice(len(rest), share - len(block), replace=False) if share > len(block) else ()
    taken |= {*block, *(rest[i] for i in more)}
  return tuple(caption for caption in everything if caption in taken)


def _shares(sizes: list[int], limit: int) -> list[int]:
  """As even as the sizes allow, of `limit` in all."""
  shares = [0] * len(sizes)
  for _ in range(limit):
    open_ = [i for i, size in enumerate(sizes) if shares[i] < size]
    shares[min(open_, key=lambda i: shares[i])] += 1
  return shares


def _block(template: Template, most: int, rng: np.random.Generator) -> set[Caption]:
  """Some words of each slot, as many of one as of another where that can be, in all combinations; at most `most`."""
  orders = [rng.permutation(len(slot.words)) for slot in template.slots]
  sizes = [min(most, 1)] * len(orders)

  def grown(i: int) -> int:
    return math.prod(size + (i == j) for j, size in enumerate(sizes))

  while can := [i for i, order in enumerate(orders) if sizes[i] < len(order) and grown(i) <= most]:
    sizes[min(can, key=lambda i: sizes[i])] += 1
  chosen = [[slot.words[i] for i in order[:size]] for slot, order, size in zip(template.slots, orders, sizes)]
  return {Caption(template=template, words=words) for words in itertools.product(*chosen) if template.allows(words)}
