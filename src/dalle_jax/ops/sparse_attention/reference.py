"""The definition: dense attention under the pattern's mask, in float32. Slow, and what every other path is compared to.

B batch, L stream, H heads, K head dim, Q S positions of queries and keys.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.ops.sparse_attention.patterns import Pattern

MASKED = -1e30  # finite, so that a row with no key at all is zeros and not NaN


def attend(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  v_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
) -> Float[Array, "B L H K"]:
  """What each position takes from those it sees, in the dtype of v."""
  weights_BHLL = attention_weights(q_BLHK, k_BLHK, pattern, text_lengths_B)
  o_BLHK = jnp.einsum("BHQS,BSHK->BQHK", weights_BHLL, v_BLHK.astype(jnp.float32), precision=lax.Precision.HIGHEST)
  return o_BLHK.astype(v_BLHK.dtype)


def attention_weights(
  q_BLHK: Float[Array, "B L H K"],
  k_BLHK: Float[Array, "B L H K"],
  pattern: Pattern,
  text_lengths_B: Int[Array, " B"] | None = None,
) -> Float[Array, "B H L L"]:
  """Float32 weights; rows sum to 1, or with separate softmaxes to 1 for the text and 1 for the image keys there are."""
  q, k = q_BLHK.astype(jnp.float32), k_BLHK.astype(jnp.float32)
  s_BHLL = jnp.einsum("BQHK,BSHK->BHQS", q, k, precision=lax.Precision.HIGHEST) * q.shape[-1] ** -0.5
  mask_BHLL = jnp.asarray(pattern.mask())[None, None]
  i = np.arange(pattern.length)
  is_image_L = (i >= pattern.image_start) & (i < pattern.image_start + pattern.image)
  if text_lengths_B is not None:
    place_L = i if pattern.order == "text_first" else i - pattern.image
    present_BL = jnp.asarray(is_image_L)[None] | (jnp.asarray(place_L)[None] < text_lengths_B[:, None])
    mask_BHLL = mask_BHLL & present_BL[:, None, None]
  if pattern.softmax == "joint":
    return masked_softmax(s_BHLL, mask_BHLL)
  image_L = jnp.asarray(is_image_L)[None, None, None]
  return masked_softmax(s_BHLL, mask_BHLL & image_L) + masked_softmax(s_BHLL, mask_BHLL & ~image_L)


def masked_softmax(s: Float[Array, "*rows S"], mask: Bool[Array, "*wide S"]) -> Float[Array, "*rows S"]:
  """Softmax over the last axis where the mask is True; exactly 0 elsewhere."""
  s = jnp.where(mask, s, MASKED)
  top = lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True))
  p = jnp.where(mask, jnp.exp(s - top), 0)
  return p / jnp.maximum(jnp.sum(p, axis=-1, keepdims=True), 1e-30)
