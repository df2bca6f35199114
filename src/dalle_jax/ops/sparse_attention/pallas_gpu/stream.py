"""The blocks that pass through a program's shared memory, and which of them each of its workers needs.

The workers of a program have neighbouring blocks of the stream of tokens. Whatever one of them reads comes by for all,
in one order; a worker that does not need a block lets it pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from dalle_jax.ops.sparse_attention.pallas_gpu.spec import BLOCK, Spec


class Keys(NamedTuple):
  """What queries read: text, blocks [0, whole) as they are and [whole, until) masked, and the image's [first, stop)."""

  whole: Any
  until: Any
  first: Any
  stop: Any

  @property
  def steps(self) -> Any:
    """Blocks that come by."""
    return self.until + self.stop - self.first

  def block(self, step: Any) -> Any:
    """The block that a step brings."""
    return jnp.where(step < self.until, step, step - self.until + self.first)


def keys_of(spec: Spec, block: Any, tokens: Any) -> Keys:
  """What a block of queries reads, where so many slots of text hold a token."""
  of_text = block < spec.text
  return Keys(
    whole=jnp.minimum(lax.div(tokens, BLOCK), jnp.where(of_text, block, spec.text)),
    until=jnp.minimum(lax.div(tokens + BLOCK - 1, BLOCK), jnp.where(of_text, block + 1, spec.text)),
    first=jnp.where(of_text, spec.text, jnp.maximum(block - spec.back, spec.text)),
    stop=jnp.where(of_text, spec.text, block + 1),
  )


def keys_of_all(spec: Spec, workers: int, start: Any, tokens: Any) -> Keys:
  """What the workers of a program read together, whose blocks of queries begin at `start`."""
  last = keys_of(spec, jnp.minimum(start + workers, spec.blocks) - 1, tokens)
  return last._replace(first=keys_of(spec, jnp.maximum(start, spec.text), tokens).first)


class Queries(NamedTuple):
  """What reads a block of keys: blocks of queries [first, masked) under a mask, and [masked, stop) as they are."""

  first: Any
  masked: Any
  stop: Any

  @property
  def steps(self) -> Any:
    """Blocks that come by."""
    return self.stop - self.first

  def block(self, step: Any) -> Any:
    """The block that a step brings."""
    return self.first + step


def queries_of(spec: Spec, block: Any) -> Queries:
  """What reads a block of keys, where all of its slots are there."""
  of_text = block < spec.text
  masked = jnp.where(of_text, block + 1, jnp.minimum(block + spec.back + 1, spec.blocks))
  return Queries(block, masked, jnp.where(of_text, spec.blocks, masked))


def queries_of_all(spec: Spec, workers: int, start: Any) -> Queries:
  """What reads any of the blocks of keys of a program's workers, which begin at `start`."""
  last = queries_of(spec, jnp.minimum(start + workers, spec.blocks) - 1)
  return last._replace(first=start, stop=jnp.maximum(queries_of(spec, start).stop, last.stop))


class Ring(NamedTuple):
  """Barriers of the slots that blocks pass through: filled by the copying warpgroup, and done with by every worker."""

  filled: Any
  used: Any


def ring(stages: int, copies: int, workers: int) -> Ring:
  """The barriers of so many slots, each filled by so many copies and used by so many workers."""
  filled = plgpu.Barrier(num_arrivals=copies, num_barriers=stages)
  return Ring(filled, plgpu.Barrier(num_arrivals=workers, num_barriers=stages))


def fill(barriers: Ring, steps: Any, copy: Callable[[Any, Any, Any], None]) -> None:
  """The copying warpgroup: `copy(step, slot, barrier)` for every step, when its slot is free."""
  (stages,) = barriers.filled.shape

  def body(step, _):
    slot = lax.rem(step, stages)

    # Past the last step nothing is copied, but the last blocks are waited for.
    @pl.when(step >= stages)
    def _wait():
      plgpu.barrier_wait(barriers.used.at[slot])

    @pl.when(step < steps)
    def _copy():
      copy(step, slot, barriers.filled.at[slot])

  lax.fori_loop(0, steps + stages, body, None)


def take(barriers: Ring, start: Any, stop: Any, carry: Any, work: Callable[[Any, Any, Any], Any]) -> Any:
  """A worker: `work(step, slot, carry)` for steps [start, stop)."""
  (stages,) = barriers.filled.shape

  def body(step, carry):
    slot = lax.rem(step, stages)
    plgpu.barrier_wait(barriers.filled.at[slot])
    carry = work(step, slot, carry)
    plgpu.barrier_arrive(barriers.used.at[slot])
    return carry

  return lax.fori_loop(start, stop, body, carry)


def let_pass(barriers: Ring, start: Any, stop: Any) -> None:
  """A worker that needs none of the steps [start, stop)."""
  take(barriers, start, stop, None, lambda step, slot, carry: carry)


def take_keys(
  barriers: Ring, own: Keys, shared: Keys, carry: Any, whole: Callable, masked: Callable, window: Callable
) -> Any:
  """Everything a worker does with the keys that come by for its program, of which it reads `own`.

  whole(slot, carry); masked(block, slot, carry) with a block of text; window(back, slot, carry) with how many blocks
  before the queries' own it is.
  """
  shift = shared.until - shared.first
  carry = take(barriers, 0, own.whole, carry, lambda step, slot, carry: whole(slot, carry))
  carry = take(barriers, own.whole, own.until, carry, masked)
  let_pass(barriers, own.until, own.first + shift)
  last = own.stop + shift
  carry = take(barriers, own.first + shift, last, carry, lambda step, slot, carry: window(last - 1 - step, slot, carry))
  let_pass(barriers, last, shared.steps)
  return carry


def take_queries(barriers: Ring, own: Queries, shared: Queries, carry: Any, masked: Callable, whole: Callable) -> Any:
  """Everything a worker does with the queries that come by, of which `own` read its block of keys.

  masked(after, slot, carry) with how many blocks after the keys' own it is; whole(slot, carry).
  """
  first = own.first - shared.first
  let_pass(barriers, 0, first)
  until = own.masked - shared.first
  carry = take(barriers, first, until, carry, lambda step, slot, carry: masked(step - first, slot, carry))
  stop = own.stop - shared.first
  carry = take(barriers, until, stop, carry, lambda step, slot, carry: whole(slot, carry))
  let_pass(barriers, stop, shared.steps)
  return carry
