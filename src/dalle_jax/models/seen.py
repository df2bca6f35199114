"""What every layer's attention was given and gave, in one pass over true tokens, told to a function of the caller's.

The blocks are the model's own: their calls are watched from outside, so the programs that train and draw are as they
were.

B batch, L stream, H heads, K head dim, T text, N image.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float, Int, PyTree

from dalle_jax.models.transformer import Block, Config, Transformer, unroll
from dalle_jax.ops.sparse_attention import Pattern


class Seen(NamedTuple):
  """One layer: who may look at whom, queries, keys and values, what came out, and text lengths if pads are masked."""

  pattern: Pattern
  q_BLHK: Float[Array, "B L H K"]
  k_BLHK: Float[Array, "B L H K"]
  v_BLHK: Float[Array, "B L H K"]
  o_BLHK: Float[Array, "B L H K"]
  length_B: Int[Array, " B"] | None = None


def by_layer(
  params: PyTree,
  cfg: Config,
  text_BT: Int[Array, "B T"],
  codes_BN: Int[Array, "B N"],
  tell: Callable[[Seen], PyTree],
) -> tuple[PyTree, ...]:
  """What `tell` makes of each layer, the first layer first."""
  params, cfg = unroll(params, cfg)
  found: list[PyTree] = []

  def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    given = call(*args, **kwargs)
    if isinstance(context.module, Block) and context.method_name == "_attend":
      block = context.module
      found.append(tell(Seen(block.cfg.pattern(block.kind), *args[:3], given[0], args[5])))
    return given

  # Within remat what is found would be of a function that is traced by itself, and could not leave it.
  net = Transformer(dataclasses.replace(cfg, remat="none"))
  with nn.intercept_methods(watch):
    net.apply({"params": params}, text_BT, codes_BN, method="features")
  return tuple(found)
