"""Self-attention of the published transformers, over a whole stream or one position after the other.

B batch, L stream, D width, H heads, K head dim.
"""

import contextlib
import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dalle_jax.models import layers
from dalle_jax.ops.sparse_attention import Pattern, attend
from dalle_jax.ops.sparse_attention.reference import masked_softmax

EXACT = lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Torus:
  """kernel x kernel cells around the query in a grid without borders, those before it (ruDALL-E's second version).

  No `Pattern`: that it wraps from the bottom row to the top one no other program wants, and no kernel serves.
  """

  text: int
  grid: int
  kernel: int

  @property
  def length(self) -> int:
    """All positions."""
    return self.text + self.grid**2

  def allowed(self, q, k):
    """Whether position q sees position k, elementwise; integers or arrays of them, numpy's or traced."""
    w, half = self.grid, (self.kernel - 1) // 2
    i, j = q - self.text, k - self.text
    down, across = (i // w - j // w) % w, (i % w - j % w) % w
    near = ((down <= half) | (down >= w - half)) & ((across <= half) | (across >= w - half))
    return (q >= k) & ((k < self.text) | near)

  def mask(self) -> Bool[np.ndarray, "L L"]:
    """True where the query (row) sees the key (column)."""
    i = np.arange(self.length)
    return self.allowed(i[:, None], i[None, :])


class Cache(NamedTuple):
  """Keys and values of a layer at all positions, zeros where none was made yet."""

  k_BLHK: Float[Array, "B L H K"]
  v_BLHK: Float[Array, "B L H K"]


def exact(dtype: str) -> contextlib.AbstractContextManager:
  """Products of float32 numbers in float32 on every device, so that logits are those of the published program."""
  return jax.default_matmul_precision("highest") if dtype == "float32" else contextlib.nullcontext()


class SelfAttention(nn.Module):
  """Queries, keys and values of all heads, softmax over what `sees` allows, and the way back to the width."""

  sees: Pattern | Torus
  width: int
  heads: int
  implementation: str
  dtype: str

  def setup(self) -> None:
    d, std = self.width, self.width**-0.5
    self.qkv = layers.Qkv(self.heads, d // self.heads, std, self.dtype)
    self.out = layers.Linear((d, d), ("heads", "embed"), std, self.dtype)

  def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """What attention adds at all positions."""
    q, k, v = self.qkv(x_BLD)
    if isinstance(self.sees, Pattern):
      o_BLHK = attend(q, k, v, pattern=self.sees, implementation=self.implementation)
    else:
      o_BLHK = _dense(q, k, v, jnp.asarray(self.sees.mask()))
    return self.out(layers.join_heads(o_BLHK))

  def init_cache(self, batch: int) -> Cache:
    """Room for the keys and values of every position."""
    zeros = jnp.zeros((batch, self.sees.length, self.heads, self.width // self.heads), self.dtype)
    return Cache(zeros, zeros)

  def step(
    self, x_B1D: Float[Array, "B 1 D"], cache: Cache, position: Int[Array, ""]
  ) -> tuple[Float[Array, "B 1 D"], Cache]:
    """What attention adds at one position, whose keys and values go into the cache."""
    q, k, v = self.qkv(x_B1D)
    cache = Cache(*(lax.dynamic_update_slice_in_dim(old, new, position, 1) for old, new in zip(cache, (k, v))))
    row_1L = self.sees.allowed(position, jnp.arange(self.sees.length))[None]
    return self.out(layers.join_heads(_dense(q, cache.k_BLHK, cache.v_BLHK, row_1L))), cache


def _dense(q_BQHK: Array, k_BLHK: Array, v_BLHK: Array, mask_QL: Array) -> Array:
  """Attention with all scores written out, in float32; the result in the dtype of v."""
  q, k, v = (x.astype(jnp.float32) for x in (q_BQHK, k_BLHK, v_BLHK))
  s_BHQL = jnp.einsum("BQHK,BLHK->BHQL", q, k, precision=EXACT) * q.shape[-1] ** -0.5
  w_BHQL = masked_softmax(s_BHQL, mask_QL[None, None])
  return jnp.einsum("BHQL,BLHK->BQHK", w_BHQL, v, precision=EXACT).astype(v_BLHK.dtype)
