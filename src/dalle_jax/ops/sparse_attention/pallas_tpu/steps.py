"""Both passes over a long stream: blocks of a few tiles of queries, and of the keys just before them, pass in turn.

The text's keys stay for all blocks of a group of heads. The window of keys that a block's tiles read is the block's own
and the `back` blocks before it: the same array, given once for each. The first blocks of the image have shorter
windows, and the text's blocks none: each of these cases is a program of its own, as is "every later block".

The backward pass goes through the image first. A block's dk and dv are complete when `back` more blocks have added to
them, and the text's when the image and all later text have: its blocks come last and in reverse.

B batch, S slots, D lanes of all groups of heads, T slots of text, G groups.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from dalle_jax.ops.sparse_attention import tiles
from dalle_jax.ops.sparse_attention.pallas_tpu import bodies
from dalle_jax.ops.sparse_attention.pallas_tpu.spec import LANES, Spec
from dalle_jax.ops.sparse_attention.tiles import TILE

MOST_TILES = 4  # of a block


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Slots of a block; blocks of text and image; how many blocks before its own a block reads."""

  size: int
  text: int
  image: int
  back: int


def blocks(plan: tiles.Layout) -> Blocks:
  """As large as MOST_TILES allows, so that text and image are whole blocks."""
  count = next(n for n in range(MOST_TILES, 0, -1) if plan.text % (n * TILE) == 0 and plan.image % (n * TILE) == 0)
  size = count * TILE
  return Blocks(size, plan.text // size, plan.image // size, math.ceil(plan.before / count))


@dataclasses.dataclass(frozen=True)
class Stitched:
  """References to ranges of slots, (first slot, slots, reference), as one reference that is indexed by slot."""

  parts: tuple[tuple[int, int, object], ...]
  axis: int = 1  # of the references' axes, the slots'

  @property
  def dtype(self):
    """Of all parts."""
    return self.parts[0][2].dtype

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the stream up to the last slot there is."""
    shape = list(self.parts[0][2].shape)
    shape[self.axis] = max(first + size for first, size, _ in self.parts)
    return tuple(shape)

  def _pieces(self, index) -> list[tuple[object, tuple]]:
    *others, slots = index if isinstance(index, tuple) else (index,)
    pieces = []
    for first, size, ref in self.parts:
      start, stop = max(slots.start, first), min(slots.stop, first + size)
      if start < stop:
        pieces.append((ref, (*others, slice(start - first, stop - first))))
    return pieces

  def __getitem__(self, index) -> Array:
    values = [ref[at] for ref, at in self._pieces(index)]
    return values[0] if len(values) == 1 else jnp.concatenate(values, axis=0)

  def __setitem__(self, index, value: Array) -> None:
    ((ref, at),) = self._pieces(index)
    ref[at] = value


def forward(
  spec: Spec,
  q_BSD: Float[Array, "B S D"],
  k_BSD: Float[Array, "B S D"],
  v_BSD: Float[Array, "B S D"],
  absent_B1T: Float[Array, "B 1 T"] | None,
  *,
  statistics: bool,
) -> tuple[Float[Array, "B S D"], Float[Array, "B G 8 S"] | None]:
  """o, and for the backward pass log2 of each query's sum of exponents, a row a head of the group."""
  plan, b = spec.plan, blocks(spec.plan)
  batch, length, lanes = q_BSD.shape
  grid = (batch, lanes // LANES, b.text + b.image)
  shapes = [jax.ShapeDtypeStruct(q_BSD.shape, q_BSD.dtype)]
  if statistics:
    shapes.append(jax.ShapeDtypeStruct((*grid[:2], 8, length), jnp.float32))
  window = _window_specs(b, lambda s: s)
  text = _text_specs(spec)

  def body(*refs) -> None:
    (q_ref, mask_ref), refs = refs[:2], refs[2:]
    absent_ref, refs = (refs[0], refs[1:]) if spec.padded else (None, refs)
    keys, values, outputs = _split(refs, len(text) + len(window), 2)

    def case(block: int, these: Sequence[tiles.Tile]) -> None:
      own = block * b.size
      k, v = (_stitched(spec, b, block, part) for part in (keys, values))
      o = Stitched(((own, b.size, outputs[0]),))
      lse = [Stitched(((own, b.size, outputs[1]),), axis=3)] if statistics else []
      absent = [absent_ref] if spec.padded else []
      bodies.forward(these, spec, Stitched(((own, b.size, q_ref),)), k, v, mask_ref, *absent, o, *lse)

    _cases(spec, b, pl.program_id(2), case)

  own = pl.BlockSpec((1, b.size, LANES), lambda n, g, s: (n, s, g))
  outputs = pl.pallas_call(
    body,
    out_shape=shapes,
    grid=grid,
    in_specs=[own, *spec.constant_specs(), *text, *window, *text, *window],
    out_specs=[own, pl.BlockSpec((1, 1, 8, b.size), lambda n, g, s: (n, g, 0, s))][: len(shapes)],
    name=f"sparse_attention_{plan.pattern.kind}_forward",
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    interpret=spec.interpret,
  )(q_BSD, *spec.constants(absent_B1T), *[k_BSD] * len(text + window), *[v_BSD] * len(text + window))
  return (*outputs, None)[:2]


def backward(
  spec: Spec,
  q_BSD: Float[Array, "B S D"],
  k_BSD: Float[Array, "B S D"],
  v_BSD: Float[Array, "B S D"],
  o_BSD: Float[Array, "B S D"],
  do_BSD: Float[Array, "B S D"],
  lse_BG8S: Float[Array, "B G 8 S"],
  absent_B1T: Float[Array, "B 1 T"] | None,
) -> tuple[Float[Array, "B S D"], ...]:
  """dq, dk and dv."""
  plan, b = spec.plan, blocks(spec.plan)
  batch, _, lanes = q_BSD.shape
  last_image = b.image + b.back  # steps before the text's
  last = last_image + b.text

  def queries(s):
    """The block whose dq a step computes, or the last one that a step computed."""
    return jnp.where(s < last_image, b.text + jnp.minimum(s, b.image - 1), last - 1 - s)

  def complete(s):
    """The block whose dk and dv a step completes, or the first one that a later step will."""
    return jnp.where(s < last_image, b.text + jnp.maximum(s - b.back, 0), last - 1 - s)

  window = _window_specs(b, queries)
  text = _text_specs(spec)

  def body(*refs) -> None:
    (q_ref, o_ref, do_ref, lse_ref, mask_ref), refs = refs[:5], refs[5:]
    absent_ref, refs = (refs[0], refs[1:]) if spec.padded else (None, refs)
    keys, values, rest = _split(refs, len(text) + len(window), 2)
    dq_ref, dk_ref, dv_ref, *sums = rest
    step = pl.program_id(2)

    def case(block: int, these: Sequence[tiles.Tile]) -> None:
      own = block * b.size
      k, v = (_stitched(spec, b, block, part) for part in (keys, values))
      dk, dv = (_sums(spec, b, block, *part) for part in (sums[:2], sums[2:]))
      q, o, do, dq = (Stitched(((own, b.size, ref),)) for ref in (q_ref, o_ref, do_ref, dq_ref))
      lse = Stitched(((own, b.size, lse_ref),), axis=3)
      bodies.backward(these, spec, _begun(b, block), q, k, v, o, do, lse, mask_ref, absent_ref, dq, dk, dv)

    # Image blocks, and text blocks in reverse, as the forward pass has them.
    at = jnp.where(step < b.image, b.text + step, jnp.where(step < last_image, -1, last - 1 - step))
    _cases(spec, b, at, case)

    @pl.when(step < last_image)
    def _image():
      bodies.finish(spec, dk_ref, dv_ref, sums[1][: b.size], sums[3][: b.size])
      for sum_SD in (sums[1], sums[3]):
        for block in range(b.back):
          sum_SD[_slots(b, block)] = sum_SD[_slots(b, block + 1)]

    for block in range(b.text):

      @pl.when(step == last - 1 - block)
      def _text(block=block):
        bodies.finish(spec, dk_ref, dv_ref, sums[0][_slots(b, block)], sums[2][_slots(b, block)])

  own = pl.BlockSpec((1, b.size, LANES), lambda n, g, s: (n, queries(s), g))
  done = pl.BlockSpec((1, b.size, LANES), lambda n, g, s: (n, complete(s), g))
  lse = pl.BlockSpec((1, 1, 8, b.size), lambda n, g, s: (n, g, 0, queries(s)))
  rows = (max(plan.text, TILE), (b.back + 1) * b.size)
  sums = [pltpu.VMEM((count, LANES), jnp.float32) for count in rows]
  return pl.pallas_call(
    body,
    out_shape=[jax.ShapeDtypeStruct(q_BSD.shape, q_BSD.dtype)] * 3,
    grid=(batch, lanes // LANES, last),
    in_specs=[own, own, own, lse, *spec.constant_specs(), *text, *window, *text, *window],
    out_specs=[own, done, done],
    scratch_shapes=sums * 2,
    name=f"sparse_attention_{plan.pattern.kind}_backward",
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
    interpret=spec.interpret,
  )(
    *(q_BSD, o_BSD, do_BSD, lse_BG8S),
    *spec.constants(absent_B1T),
    *[k_BSD] * len(text + window),
    *[v_BSD] * len(text + window),
  )


def runs(plan: tiles.Layout) -> dict[str, tuple[int, tuple[int, ...]]]:
  """For each pass its steps a group of heads, and how often each part of its program that may be skipped runs."""
  b = blocks(plan)
  count = b.text + b.image
  special = min(b.text + max(b.back, 1), count - 1)
  cases = (*[1] * special, count - special)
  image = b.image + b.back
  return {"forward": (count, cases), "backward": (image + b.text, (*cases, image, *[1] * b.text))}


def _cases(spec: Spec, b: Blocks, block, case: Callable[[int, Sequence[tiles.Tile]], None]) -> None:
  """Runs the program of a block: one of its own for text and the image's first blocks, one for all others."""
  every = tiles.tiles(spec.plan, spec.block_k)
  count = b.size // TILE
  # The first block of the image is special without a window too: it is the first that reads the text.
  special = b.text + max(b.back, 1)
  for i in range(min(special + 1, b.text + b.image)):
    of_block = every[i * count : (i + 1) * count]

    @pl.when(block == i if i < special else block >= i)
    def _run(i=i, of_block=of_block):
      case(i, of_block)


def _stitched(spec: Spec, b: Blocks, block: int, refs: Sequence) -> Stitched:
  """Text and window, oldest first, as the stream that a block's tiles index."""
  parts = [(0, spec.plan.text, refs[0])] if spec.plan.text else []
  if block >= b.text:
    for before, ref in zip(range(b.back, -1, -1), refs[len(parts) :]):
      if block - before >= b.text:
        parts.append(((block - before) * b.size, b.size, ref))
  return Stitched(tuple(parts))


def _sums(spec: Spec, b: Blocks, block: int, text_ref, window_ref) -> Stitched:
  """Sums of the text and of the window of a block, whose own slots come last."""
  parts = [(0, spec.plan.text, text_ref)] if spec.plan.text else []
  for i in range(b.back + 1):
    if (of := block - b.back + i) >= b.text:
      parts.append((of * b.size, b.size, window_ref.at[pl.ds(i * b.size, b.size)]))
  return Stitched(tuple(parts), axis=0)


def _begun(b: Blocks, block: int) -> set[int]:
  """Starts of the tiles that something was added to before this block's step."""
  if block < b.text:
    return set(range(0, b.text * b.size, TILE))
  first = b.text * b.size
  text = range(0, first if block > b.text else 0, TILE)
  return {*text, *range(first, block * b.size, TILE)}


def _slots(b: Blocks, block: int) -> slice:
  return slice(block * b.size, (block + 1) * b.size)


def _window_specs(b: Blocks, block_of: Callable) -> list[pl.BlockSpec]:
  """The window's blocks, oldest first; before the image begins the first one stands in, unread."""

  def spec(before: int) -> pl.BlockSpec:
    return pl.BlockSpec((1, b.size, LANES), lambda n, g, s: (n, jnp.maximum(block_of(s) - before, 0), g))

  return [spec(before) for before in range(b.back, -1, -1)]


def _text_specs(spec: Spec) -> list[pl.BlockSpec]:
  text = spec.plan.text
  return [pl.BlockSpec((1, text, LANES), lambda n, g, s: (n, 0, g))] if text else []


def _split(refs: Sequence, size: int, count: int) -> list:
  """`count` groups of `size` references, and the rest."""
  return [*(refs[i * size : (i + 1) * size] for i in range(count)), refs[count * size :]]
