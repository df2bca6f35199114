"""Both passes with a group's whole stream in fast memory: a grid of examples and groups of heads.

B batch, S slots, D lanes of all groups of heads, T slots of text, G groups.
"""

import functools
from collections.abc import Callable, Collection, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from dalle_jax.ops.sparse_attention import tiles
from dalle_jax.ops.sparse_attention.pallas_tpu import bodies, columns
from dalle_jax.ops.sparse_attention.pallas_tpu.spec import LANES, Spec


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
  grid, stream, lse = _blocks(q_BSD)
  constants = spec.constant_specs()
  shapes = [jax.ShapeDtypeStruct(q_BSD.shape, q_BSD.dtype)]
  if statistics:
    shapes.append(jax.ShapeDtypeStruct((*grid, 8, q_BSD.shape[1]), jnp.float32))
  outputs = pl.pallas_call(
    _body(bodies.forward, spec, {0, 1, 2, 3 + len(constants)}),
    out_shape=shapes,
    grid=grid,
    in_specs=[stream] * 3 + constants,
    out_specs=[stream, lse][: len(shapes)],
    name=f"sparse_attention_{spec.plan.pattern.kind}_forward",
    compiler_params=_parameters(),
    interpret=spec.interpret,
  )(q_BSD, k_BSD, v_BSD, *spec.constants(absent_B1T))
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
  grid, stream, lse = _blocks(q_BSD)
  constants = spec.constant_specs()
  given = 6 + len(constants)
  return pl.pallas_call(
    _body(_backward, spec, {*range(5), *range(given, given + 3)}),
    out_shape=[jax.ShapeDtypeStruct(q_BSD.shape, q_BSD.dtype)] * 3,
    grid=grid,
    in_specs=[stream] * 5 + [lse, *constants],
    out_specs=[stream] * 3,
    scratch_shapes=[pltpu.VMEM((q_BSD.shape[1], LANES), jnp.float32)] * 2,
    name=f"sparse_attention_{spec.plan.pattern.kind}_backward",
    compiler_params=_parameters(),
    interpret=spec.interpret,
  )(q_BSD, k_BSD, v_BSD, o_BSD, do_BSD, lse_BG8S, *spec.constants(absent_B1T))


def _backward(every: Sequence[tiles.Tile], spec: Spec, *refs) -> None:
  *given, dq_ref, dk_ref, dv_ref, dk_SD, dv_SD = refs
  absent_ref = given.pop() if spec.padded else None
  bodies.backward(every, spec, set(), *given, absent_ref, dq_ref, dk_SD, dv_SD)
  bodies.finish(spec, dk_ref, dv_ref, dk_SD, dv_SD)


def _body(body: Callable[..., None], spec: Spec, streams: Collection[int]):
  """The body with its static arguments, which reads and writes these references by columns where it transposes."""
  run = functools.partial(body, tiles.tiles(spec.plan, spec.block_k), spec)
  if not spec.transposes:
    return run
  by_columns = lambda ref: columns.Columns(ref, spec.plan, spec.interpret)  # noqa: E731
  return lambda *refs: run(*(by_columns(ref) if i in streams else ref for i, ref in enumerate(refs)))


def _blocks(x_BSD: Array):
  """The grid; blocks of a group's stream, and of its heads' statistics."""
  batch, length, lanes = x_BSD.shape
  stream = pl.BlockSpec((1, length, LANES), lambda b, g: (b, 0, g))
  statistics = pl.BlockSpec((1, 1, 8, length), lambda b, g: (b, g, 0, 0))
  return (batch, lanes // LANES), stream, statistics


def _parameters() -> pltpu.CompilerParams:
  return pltpu.CompilerParams(dimension_semantics=("parallel", "parallel"))
