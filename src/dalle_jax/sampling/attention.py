"""What of its attention each image position gives to the text: the transformer's own weights, layer by layer.

The weights at position j are those that drew code j. A text position holds the token before it: position 0 the start,
position i the caption's i-th token, or its pad.

A layers, B pictures, L stream, T text positions, N image tokens, H heads, K head dim.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from dalle_jax.errors import UserError
from dalle_jax.models import seen, transformer
from dalle_jax.models.seen import Seen
from dalle_jax.ops.sparse_attention import attention_weights
from dalle_jax.sampling.devices import scope
from dalle_jax.sharding import Rules


@functools.partial(jax.jit, static_argnames=("model", "mesh", "rules"))
def on_text(
  params: PyTree,
  text_BT: Int[Array, "B T"],
  codes_BN: Int[Array, "B N"],
  *,
  model: transformer.Config,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
) -> Float[Array, "A B N T"]:
  """The weights of every image position on every text position, their mean over heads; the rest is on the picture.

  mesh: where the parameters lie, by these rules; pictures are split over it, and have to divide. Raises UserError for a
  model whose image comes first: its image positions see no text.
  """
  if model.order != "text_first":
    raise UserError("this transformer's image tokens come before the text: they look at no caption")
  with scope(mesh, rules):
    return jnp.stack(seen.by_layer(params, model, text_BT, codes_BN, mean_over_heads))


def mean_over_heads(layer: Seen) -> Float[Array, "B N T"]:
  """One head after the other, so that one matrix of weights of the whole stream is in memory."""
  pattern = layer.pattern
  image = slice(pattern.image_start, pattern.image_start + pattern.image)

  def add(sum_BNT: Array, head: tuple[Array, Array]) -> tuple[Array, None]:
    q_BLK, k_BLK = head
    weights_BHLL = attention_weights(q_BLK[:, :, None], k_BLK[:, :, None], pattern, layer.length_B)
    return sum_BNT + weights_BHLL[:, 0, image, : pattern.text], None

  batch, _, heads, _ = layer.q_BLHK.shape
  zeros_BNT = jnp.zeros((batch, pattern.image, pattern.text))
  by_head = tuple(jnp.moveaxis(x, 2, 0) for x in (layer.q_BLHK, layer.k_BLHK))
  return jax.lax.scan(add, zeros_BNT, by_head)[0] / heads
