"""A worker's way through the blocks that come by, each with what its scores are masked by.

`step(slot, mask, carry)` is called for every block that the worker's own needs, with the slot that it lies in and a
function of the scores of a block with a block.

Q T queries and keys of a block.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from dalle_jax.ops.sparse_attention.pallas_gpu import stream
from dalle_jax.ops.sparse_attention.pallas_gpu.program import Work
from dalle_jax.ops.sparse_attention.pallas_gpu.registers import sees, tile
from dalle_jax.ops.sparse_attention.pallas_gpu.spec import Spec
from dalle_jax.ops.sparse_attention.reference import MASKED

Step = Callable[[Any, Callable[[Array], Array], Any], Any]


def over_keys(spec: Spec, w: Work, carry: Any, step: Step) -> Any:
  """With queries staying: the text, whose end is masked, then the window, each block of it under its own mask."""

  def whole(slot, carry):
    return step(slot, lambda s_QT: s_QT, carry)

  def masked(block, slot, carry):
    return step(slot, lambda s_QT: jnp.where(sees(spec.interpret, w.block, block, w.tokens), s_QT, MASKED), carry)

  def window(back, slot, carry):
    return step(slot, lambda s_QT: s_QT + _added(spec, w, 1 + back), carry)

  own = stream.keys_of(spec, w.block, w.tokens)
  return stream.take_keys(w.barriers, own, w.shared, carry, whole, masked, window)


def over_queries(spec: Spec, w: Work, carry: Any, step: Step) -> Any:
  """With keys staying and scores [T, Q]: masked are the text's own block, and those of the image that see the keys."""

  def masked(after, slot, carry):
    which = jnp.where(w.block < spec.text, 0, 1 + after)
    return step(slot, lambda s_TQ: s_TQ + _added(spec, w, which), carry)

  def whole(slot, carry):
    return step(slot, lambda s_TQ: s_TQ, carry)

  own = stream.queries_of(spec, w.block)
  return stream.take_queries(w.barriers, own, w.shared, carry, masked, whole)


def _added(spec: Spec, w: Work, which: Any) -> Array:
  return tile(spec.interpret, w.masks[which]).astype(jnp.float32)
