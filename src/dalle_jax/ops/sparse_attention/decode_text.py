"""One text position after the other, of a stream in which the image comes first: what writing captions does.

A cache holds all image keys, once for all captions of a picture, and the text keys of each caption so far. Text sees
all of the image whatever the pattern, which rules only what the image sees of itself (`decode.attend_prefix`).

C pictures, R captions of each, B = C R rows, N image, T text, H heads, K head dim.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import decode
from dalle_jax.ops.sparse_attention.patterns import Pattern


class Cache(NamedTuple):
  """Keys and values of one layer: a picture's, and of each of its captions, which follow one another."""

  image_k_CHNK: Float[Array, "C H N K"]
  image_v_CHNK: Float[Array, "C H N K"]
  text_k_BHTK: Float[Array, "B H T K"]
  text_v_BHTK: Float[Array, "B H T K"]


def init_cache(
  pattern: Pattern, pictures: int, samples: int, heads: int, head_dim: int, dtype: jnp.dtype | str
) -> Cache:
  """An empty cache for so many captions of each picture. Raises UserError for a pattern without the image first."""
  if pattern.order != "image_first" or pattern.softmax != "joint":
    raise UserError(f"captions need the image first and a joint softmax, got {pattern.order} and {pattern.softmax}")
  shape = lambda rows, n: jnp.zeros((rows, heads, n, head_dim), dtype)  # noqa: E731
  image, text = shape(pictures, pattern.image), shape(pictures * samples, pattern.text)
  return Cache(image, image, text, text)


def prefill(cache: Cache, k_CNHK: Float[Array, "C N H K"], v_CNHK: Float[Array, "C N H K"], pattern: Pattern) -> Cache:
  """The cache after the whole picture."""
  k_CHNK, v_CHNK = (x.swapaxes(1, 2).astype(cache.image_k_CHNK.dtype) for x in (k_CNHK, v_CNHK))
  return cache._replace(image_k_CHNK=k_CHNK, image_v_CHNK=v_CHNK)


def decode_step(
  q_BHK: Float[Array, "B H K"],
  k_BHK: Float[Array, "B H K"],
  v_BHK: Float[Array, "B H K"],
  cache: Cache,
  i: Int[Array, ""],
  pattern: Pattern,
) -> tuple[Float[Array, "B H K"], Cache]:
  """What text position i sees, its own key and value included, and the cache with them in it."""
  seen_T = jnp.arange(pattern.text) < i
  o_BHK = decode.attend_both(q_BHK, k_BHK, v_BHK, *cache, seen_T).astype(v_BHK.dtype)
  k_BHTK, v_BHTK = (decode.put(x, y, i, o_BHK) for x, y in ((cache.text_k_BHTK, k_BHK), (cache.text_v_BHTK, v_BHK)))
  return o_BHK, cache._replace(text_k_BHTK=k_BHTK, text_v_BHTK=v_BHTK)
