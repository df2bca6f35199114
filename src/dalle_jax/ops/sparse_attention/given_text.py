"""The whole image at once after a text whose keys and values are kept: one text read once for many pictures.

C captions, R pictures of each, B = C R rows, T text, N image, H heads, K head dim.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.ops.sparse_attention.attend import attend
from dalle_jax.ops.sparse_attention.decode import Cache
from dalle_jax.ops.sparse_attention.patterns import Pattern


class Text(NamedTuple):
  """Keys and values of captions in one layer; rows of a caption follow one another."""

  k_CHTK: Float[Array, "C H T K"]
  v_CHTK: Float[Array, "C H T K"]
  length_C: Int[Array, " C"] | None = None


def text_of(cache: Cache) -> Text:
  """What a cache that is filled with captions holds of them."""
  return Text(cache.text_k_CHTK, cache.text_v_CHTK, cache.text_length_C)


def attend_image(
  q_BNHK: Float[Array, "B N H K"],
  k_BNHK: Float[Array, "B N H K"],
  v_BNHK: Float[Array, "B N H K"],
  text: Text,
  pattern: Pattern,
  implementation: str,
) -> Float[Array, "B N H K"]:
  """`attend` at the image positions of a text-first stream; what the text itself would see is not asked for."""
  rows = q_BNHK.shape[0] // text.k_CHTK.shape[0]
  k_BTHK, v_BTHK = (jnp.repeat(x.swapaxes(1, 2), rows, axis=0) for x in (text.k_CHTK, text.v_CHTK))
  stream = lambda before, x: jnp.concatenate([before.astype(x.dtype), x], axis=1)  # noqa: E731
  q_BLHK = stream(jnp.zeros_like(k_BTHK), q_BNHK)
  k_BLHK, v_BLHK = stream(k_BTHK, k_BNHK), stream(v_BTHK, v_BNHK)
  length_B = None if text.length_C is None else jnp.repeat(text.length_C, rows)
  o_BLHK = attend(q_BLHK, k_BLHK, v_BLHK, pattern=pattern, implementation=implementation, text_lengths_B=length_B)
  return o_BLHK[:, pattern.text :]
