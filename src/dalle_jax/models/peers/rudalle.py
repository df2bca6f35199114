"""ruDALL-E (Sber AI 2021; Malevich, Emojich, Surrealist, Kandinsky): CogView's blocks under the masks of DALL-E.

T = 128 text and N = 1,024 image positions. Its third version, `carried` = T, and its second, `carried` = T + 1:

    position    0        1   ... T-1    |  T       T+1  ... T+N-1
    third       t0       t1  ... t(T-1) |  z0      z1   ... z(N-1)     logits at T-1+j draw z_j
    second      start    t0  ... t(T-2) |  t(T-1)  z0   ... z(N-2)     logits at T+j draw z_j

The masks are the same in both, but for the window of the last layer: in the third version it ends at the grid's
borders, in the second it goes on at the opposite ones. A code's row and column are its own in both.

Blocks: x + norm(attention(norm(x))), then x + norm(mlp(norm(x))) ("sandwich", CogView 2.4), GELU by tanh. CogView's
PB-relax divides scores, takes their greatest away and multiplies again, so that float16 does not overflow. Softmax is
the same without, and scores are float32 here whatever the dtype, so no step of its own stands for it.
One head scores text and image tokens together; each kind is drawn from its own part.

B batch, L = T + N stream, D width, V text classes, W codebook, S = carried - 1 text tokens that are drawn.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.errors import UserError
from dalle_jax.models import layers
from dalle_jax.models.peers.attention import Cache, SelfAttention, Torus, exact
from dalle_jax.models.peers.logits import Logits
from dalle_jax.ops.sparse_attention import Pattern

PAD, START = 0, 2  # ids of its tokenizer
LARGEST = 65504.0  # of float16: what attention gives is cut there in every dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The published 1.3B models' sizes, third version.

  text_vocab: ids of the tokenizer; an absent token at position i is id text_vocab + i, and 0 is read as such.
  carried: how many positions carry text; z0 enters at the next one. `text`, or one more where a start token leads.
  wraps: whether the last layer's window goes on at the opposite border of the grid.
  attention: implementation of `sparse_attention.attend`.
  """

  text_vocab: int = 16384
  text: int = 128
  image_vocab: int = 8192
  grid: int = 32
  layers: int = 24
  width: int = 2048
  heads: int = 16
  kernel: int = 11
  carried: int = 128
  wraps: bool = False
  attention: str = "auto"
  dtype: str = "float32"

  def __post_init__(self) -> None:
    for name in ("text_vocab", "text", "image_vocab", "grid", "layers", "width", "heads"):
      if getattr(self, name) < 1:
        raise UserError(f"ruDALL-E's {name} is {getattr(self, name)}: it must be at least 1")
    if self.width % self.heads:
      raise UserError(f"ruDALL-E's width {self.width} does not divide into {self.heads} heads: change one of them")
    if self.carried - self.text not in (0, 1):
      raise UserError(f"ruDALL-E's carried is {self.carried}: {self.text} or {self.text + 1} is wanted")
    if self.dtype not in ("float32", "bfloat16"):
      raise UserError(f'ruDALL-E\'s dtype is {self.dtype!r}: "float32" or "bfloat16" is wanted')
    self.sees(self.layers - 1)

  @property
  def text_classes(self) -> int:
    """Text tokens and one pad a position."""
    return self.text_vocab + self.text

  def sees(self, layer: int) -> Pattern | Torus:
    """Who looks at whom in a layer: columns in every fourth, a window in the last, rows in the others."""
    if layer % 4 == 1:
      return Pattern(text=self.text, grid=self.grid, kind="column")
    if layer != self.layers - 1:
      return Pattern(text=self.text, grid=self.grid, kind="row")
    if self.wraps:
      return Torus(self.text, self.grid, self.kernel)
    return Pattern(text=self.text, grid=self.grid, kind="conv_clamped", kernel=self.kernel)


class Block(nn.Module):
  """Attention and MLP, each a branch of the residual stream between two norms."""

  cfg: Config
  sees: Pattern | Torus

  def setup(self) -> None:
    c, d = self.cfg, self.cfg.width
    self.attention_in = layers.Norm(c.dtype)
    self.attention = SelfAttention(self.sees, d, c.heads, c.attention, c.dtype)
    self.attention_out = layers.Norm(c.dtype)
    self.mlp_in = layers.Norm(c.dtype)
    self.up = layers.Linear((d, 4 * d), ("embed", "mlp"), d**-0.5, c.dtype)
    self.down = layers.Linear((4 * d, d), ("mlp", "embed"), d**-0.5, c.dtype)
    self.mlp_out = layers.Norm(c.dtype)

  def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """The stream after this block."""
    return self._rest(x_BLD, self.attention(self.attention_in(x_BLD)))

  def init_cache(self, batch: int) -> Cache:
    """Keys and values of no position yet."""
    return self.attention.init_cache(batch)

  def step(
    self, x_B1D: Float[Array, "B 1 D"], cache: Cache, position: Int[Array, ""]
  ) -> tuple[Float[Array, "B 1 D"], Cache]:
    """The stream at one position after this block, and the cache with it."""
    given_B1D, cache = self.attention.step(self.attention_in(x_B1D), cache, position)
    return self._rest(x_B1D, given_B1D), cache

  def _rest(self, x_BLD: Float[Array, "B L D"], given_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    x_BLD = x_BLD + self.attention_out(jnp.clip(given_BLD, -LARGEST, LARGEST))
    return x_BLD + self.mlp_out(self.down(jax.nn.gelu(self.up(self.mlp_in(x_BLD)), approximate=True)))


class RuDalle(nn.Module):
  """The whole network."""

  cfg: Config

  def setup(self) -> None:
    c, d = self.cfg, self.cfg.width
    table = lambda rows, axis: layers.Embedding(rows, d, 0.02, (axis, "embed"), c.dtype)  # noqa: E731
    self.text_token, self.image_token = table(c.text_classes, "vocab"), table(c.image_vocab, "vocab")
    self.text_position = table(c.text + 1, "position")
    self.row, self.column = table(c.grid, "position"), table(c.grid, "position")
    self.blocks = [Block(c, c.sees(i), name=f"block_{i}") for i in range(c.layers)]
    self.norm_out, self.norm_head = layers.Norm(c.dtype), layers.Norm(c.dtype)
    self.head = layers.Linear((d, c.text_classes + c.image_vocab), ("embed", "vocab"), d**-0.5, c.dtype)

  def __call__(self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]) -> Logits:
    """Teacher-forced logits of the last carried - 1 text tokens and of z0 ... z(N-1), each of its own part."""
    joint_BLV, c = self.joint(text_BT, codes_BN), self.cfg
    first = c.carried - 1
    return Logits(joint_BLV[:, :first, : c.text_classes], joint_BLV[:, first : first + c.grid**2, c.text_classes :])

  def joint(self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]) -> Float[Array, "B L V"]:
    """Logits of text classes and then codes at every position."""
    c = self.cfg
    with exact(c.dtype):
      ids_BS = self._carried(text_BT)
      text_BSD = self.text_token(ids_BS) + self.text_position(jnp.arange(c.carried))[None]
      image_BND = self.image_token(codes_BN) + self._place(jnp.arange(c.grid**2))[None]
      x_BLD = jnp.concatenate([text_BSD, image_BND], axis=1)[:, : c.text + c.grid**2]
      for block in self.blocks:
        x_BLD = block(x_BLD)
      return self._logits(x_BLD)

  def init_caches(self, batch: int) -> tuple[Cache, ...]:
    """Keys and values of no position yet, for each block."""
    return tuple(block.init_cache(batch) for block in self.blocks)

  def step(
    self, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"], caches: tuple[Cache, ...], position: Int[Array, ""]
  ) -> tuple[Float[Array, "B W"], tuple[Cache, ...]]:
    """Image logits of one position, whose token is taken from the text or the codes, and the caches with it."""
    c = self.cfg
    with exact(c.dtype):
      i = jnp.minimum(position, c.carried - 1)
      j = jnp.clip(position - c.carried, 0, c.grid**2 - 1)
      text_BD = self.text_token(self._carried(text_BT)[:, i]) + self.text_position(i)[None]
      image_BD = self.image_token(codes_BN[:, j]) + self._place(j)[None]
      x_B1D = jnp.where(position < c.carried, text_BD, image_BD)[:, None]
      after = []
      for block, cache in zip(self.blocks, caches):
        x_B1D, cache = block.step(x_B1D, cache, position)
        after.append(cache)
      return self._logits(x_B1D)[:, 0, c.text_classes :], tuple(after)

  def _carried(self, text_BT: Int[Array, "B T"]) -> Int[Array, "B S"]:
    """Ids of all positions that carry text: pads by their position, a start token first where there is one."""
    c = self.cfg
    ids_BT = jnp.where(text_BT == PAD, c.text_vocab + jnp.arange(c.text)[None], text_BT)
    return jnp.pad(ids_BT, ((0, 0), (c.carried - c.text, 0)), constant_values=START)

  def _place(self, cell: Int[Array, "*cells"]) -> Float[Array, "*cells D"]:
    return self.row(cell // self.cfg.grid) + self.column(cell % self.cfg.grid)

  def _logits(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
    return self.head(self.norm_head(self.norm_out(x_BLD))).astype(jnp.float32)
