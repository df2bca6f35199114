"""minDALL-E (Kakao Brain 2021): a GPT over 64 text and 256 image tokens, each with embeddings and a head of its own.

    position   0    1   ... 63  |  64   65  ... 319
    carries    t0   t1  ... t63 |  z0   z1  ... z255
    draws      t1   t2  ... z0  |  z1   z2  ... nothing

Every block is x + attention(norm(x)), then x + mlp(norm(x)) with the exact GELU; all positions see all before them.

B batch, T text, N image, L = T + N stream, D width, V classes, S = T - 1 text tokens that are drawn.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.models import layers
from dalle_jax.models.peers.attention import Cache, SelfAttention, exact
from dalle_jax.models.peers.logits import Logits
from dalle_jax.ops.sparse_attention import Pattern


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The published 1.3B model's sizes.

  carried: how many positions carry text; z0 enters at the next one. All `text` of them: there is no start token.
  attention: implementation of `sparse_attention.attend`.
  """

  text_vocab: int = 16384
  text: int = 64
  image_vocab: int = 16384
  grid: int = 16
  layers: int = 42
  width: int = 1536
  heads: int = 24
  carried: int = 64
  attention: str = "auto"
  dtype: str = "float32"

  def __post_init__(self) -> None:
    for name in ("text_vocab", "text", "image_vocab", "grid", "layers", "width", "heads"):
      if getattr(self, name) < 1:
        raise UserError(f"minDALL-E's {name} is {getattr(self, name)}: it must be at least 1")
    if self.width % self.heads:
      raise UserError(f"minDALL-E's width {self.width} does not divide into {self.heads} heads: change one of them")
    if self.carried != self.text:
      raise UserError(f"minDALL-E's carried is {self.carried}: as many as its text positions, {self.text}, is wanted")
    if self.dtype not in ("float32", "bfloat16"):
      raise UserError(f'minDALL-E\'s dtype is {self.dtype!r}: "float32" or "bfloat16" is wanted')

  def pattern(self) -> Pattern:
    """Who looks at whom, in every layer."""
    return Pattern(text=self.text, grid=self.grid, kind="full")


class Block(nn.Module):
  """Attention and MLP, each a branch of the residual stream that starts with a norm."""

  cfg: Config

  def setup(self) -> None:
    c, d = self.cfg, self.cfg.width
    self.norm_1 = layers.Norm(c.dtype)
    self.attention = SelfAttention(c.pattern(), d, c.heads, c.attention, c.dtype)
    self.norm_2 = layers.Norm(c.dtype)
    self.up = layers.Linear((d, 4 * d), ("embed", "mlp"), d**-0.5, c.dtype)
    self.down = layers.Linear((4 * d, d), ("mlp", "embed"), d**-0.5, c.dtype)

  def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """The stream after this block."""
    return self._mlp(x_BLD + self.attention(self.norm_1(x_BLD)))

  def init_cache(self, batch: int) -> Cache:
    """Keys and values of no position yet."""
    return self.attention.init_cache(batch)

  def step(
    self, x_B1D: Float[Array, "B 1 D"], cache: Cache, position: Int[Array, ""]
  ) -> tuple[Float[Array, "B 1 D"], Cache]:
    """The stream at one position after this block, and the cache with it."""
    added_B1D, cache = self.attention.step(self.norm_1(x_B1D), cache, position)
    return self._mlp(x_B1D + added_B1D), cache

  def _mlp(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    return x_BLD + self.down(jax.nn.gelu(self.up(self.norm_2(x_BLD)), approximate=False))


class MinDalle(nn.Module):
  """The whole network."""

  cfg: Config

  def setup(self) -> None:
    c, d = self.cfg, self.cfg.width
    table = lambda rows, axis: layers.Embedding(rows, d, 0.02, (axis, "embed"), c.dtype)  # noqa: E731
    self.text_token, self.image_token = table(c.text_vocab, "vocab"), table(c.image_vocab, "vocab")
    self.text_position, self.image_position = table(c.text, "position"), table(c.grid**2, "position")
    self.blocks = [Block(c, name=f"block_{i}") for i in range(c.layers)]
    self.norm_out = layers.Norm(c.dtype)
    self.text_head = layers.Linear((d, c.text_vocab), ("embed", "vocab"), d**-0.5, c.dtype, bias=False)
    self.image_head = layers.Linear((d, c.image_vocab), ("embed", "vocab"), d**-0.5, c.dtype, bias=False)

  def __call__(self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]) -> Logits:
    """Teacher-forced logits of t1 ... t(T-1) and of z0 ... z(N-1)."""
    with exact(self.cfg.dtype):
      text_BTD = self.text_token(text_BT) + self.text_position.table()[None]
      x_BLD = jnp.concatenate([text_BTD, self.image_token(codes_BN) + self.image_position.table()[None]], axis=1)
      for block in self.blocks:
        x_BLD = block(x_BLD)
      x_BLD, first = self.norm_out(x_BLD), self.cfg.carried - 1
      return Logits(
        self.text_head(x_BLD[:, :first]).astype(jnp.float32),
        self.image_head(x_BLD[:, first:-1]).astype(jnp.float32),
      )

  def init_caches(self, batch: int) -> tuple[Cache, ...]:
    """Keys and values of no position yet, for each block."""
    return tuple(block.init_cache(batch) for block in self.blocks)

  def step(
    self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"], caches: tuple[Cache, ...], position: Int[Array, ""]
  ) -> tuple[Float[Array, "B V"], tuple[Cache, ...]]:
    """Image logits of one position, whose token is taken from the text or the codes, and the caches with it."""
    with exact(self.cfg.dtype):
      i = jnp.minimum(position, self.cfg.text - 1)
      j = jnp.clip(position - self.cfg.carried, 0, self.cfg.grid**2 - 1)
      text_BD = self.text_token(text_BT[:, i]) + self.text_position(i)[None]
      image_BD = self.image_token(codes_BN[:, j]) + self.image_position(j)[None]
      x_B1D = jnp.where(position < self.cfg.carried, text_BD, image_BD)[:, None]
      after = []
      for block, cache in zip(self.blocks, caches):
        x_B1D, cache = block.step(x_B1D, cache, position)
        after.append(cache)
      return self.image_head(self.norm_out(x_B1D))[:, 0].astype(jnp.float32), tuple(after)
