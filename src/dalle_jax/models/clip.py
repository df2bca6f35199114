"""CLIP: a vision transformer and a causal text transformer that meet in one space (Radford et al. 2021; paper 9).

B N batch, H W pixels, p side of a patch, L positions, D width, T text, E shared space.
"""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import layers
from dalle_jax.sharding import axes, constrain

MAX_SCALE = 100.0
# Mean and standard deviation of the channels of the pictures that the published weights were trained on.
CHANNEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
CHANNEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The published ViT-B/32's sizes, over this project's captions.

  text: positions of a caption, the last always a pad; ids of text_vocab and above are pads. embed: the shared space.
  remat: recompute each block in the backward pass; scan: compile one block of a tower and loop over it.
  """

  image: int = 224
  patch: int = 32
  text_vocab: int = 16384
  text: int = 256
  embed: int = 512
  vision_layers: int = 12
  vision_width: int = 768
  vision_heads: int = 12
  text_layers: int = 12
  text_width: int = 512
  text_heads: int = 8
  remat: bool = False
  scan: bool = True
  dtype: str = "float32"

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        raise UserError(f"CLIP's {field.name} is {value}: it must be at least 1")
    if self.image % self.patch:
      raise UserError(f"CLIP can't cut {self.image} pixels into patches of {self.patch}: change image or patch")
    for tower in ("vision", "text"):
      width, heads = getattr(self, f"{tower}_width"), getattr(self, f"{tower}_heads")
      if width % heads:
        raise UserError(f"CLIP's {tower}_width {width} does not divide into {heads} heads: change one of them")
    if self.dtype not in ("float32", "bfloat16"):
      raise UserError(f'CLIP\'s dtype is {self.dtype!r}: "float32" or "bfloat16" is wanted')


class Block(nn.Module):
  """Attention and MLP, each a branch of the residual stream that starts with a norm."""

  width: int
  heads: int
  depth: int
  causal: bool
  dtype: str

  def setup(self) -> None:
    d, std, shrink = self.width, self.width**-0.5, layers.residual_std(self.depth)
    self.norm_1 = layers.Norm(self.dtype)
    self.qkv = layers.Qkv(self.heads, d // self.heads, std, self.dtype)
    self.out = layers.Linear((d, d), ("heads", "embed"), std * shrink, self.dtype)
    self.norm_2 = layers.Norm(self.dtype)
    self.mlp = layers.Mlp(d, std / math.sqrt(2), std * shrink, self.dtype)

  def __call__(self, x_BLD: Float[Array, "B L D"], _: None) -> tuple[Float[Array, "B L D"], None]:
    """The stream after this block; the None are what `nn.scan` wants beside its carry."""
    q, k, v = self.qkv(self.norm_1(x_BLD))
    x_BLD = x_BLD + self.out(layers.join_heads(jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)))
    return constrain(x_BLD + self.mlp(self.norm_2(x_BLD)), "batch", "seq", None), None


class Tower(nn.Module):
  """`depth` blocks."""

  cfg: Config
  width: int
  heads: int
  depth: int
  causal: bool

  @nn.compact
  def __call__(self, x_BLD: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    block = nn.remat(Block, prevent_cse=not self.cfg.scan) if self.cfg.remat else Block
    sizes = (self.width, self.heads, self.depth, self.causal, self.cfg.dtype)
    if self.cfg.scan:
      stack = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=self.depth,
        metadata_params={nn.PARTITION_NAME: "layers"},
      )
      return stack(*sizes, name="blocks")(x_BLD, None)[0]
    for i in range(self.depth):
      x_BLD, _ = block(*sizes, name=f"block_{i}")(x_BLD, None)
    return x_BLD


class Vision(nn.Module):
  """Pictures to vectors, by a class token that looks at all patches."""

  cfg: Config

  @nn.compact
  def __call__(self, images_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
    c, d = self.cfg, self.cfg.vision_width
    std, side, p = d**-0.5, c.image // c.patch, c.patch
    x_BHWC = (images_BHWC - jnp.array(CHANNEL_MEAN)[None, None, None]) / jnp.array(CHANNEL_STD)[None, None, None]
    patches_BLX = x_BHWC.reshape(-1, side, p, side, p, 3).swapaxes(2, 3).reshape(-1, side**2, p * p * 3)
    patch = layers.Linear((p * p * 3, d), (None, "embed"), (p * p * 3) ** -0.5, c.dtype, bias=False, name="patch")
    table = lambda rows, name: layers.Embedding(rows, d, std, (None, "embed"), c.dtype, name=name).table()  # noqa: E731
    class_B1D = jnp.broadcast_to(table(1, "class_token"), (images_BHWC.shape[0], 1, d))
    x_BLD = jnp.concatenate([class_B1D, patch(patches_BLX)], axis=1) + table(side**2 + 1, "position")[None]
    x_BLD = layers.Norm(c.dtype, name="norm_in")(x_BLD)
    x_BLD = Tower(c, d, c.vision_heads, c.vision_layers, causal=False, name="tower")(x_BLD)
    x_BD = layers.Norm("float32", name="norm_out")(x_BLD[:, 0])
    return layers.Linear((d, c.embed), ("embed", None), std, "float32", bias=False, name="head")(x_BD)


class Text(nn.Module):
  """Captions to vectors, by the first pad, which sees the whole caption and no other pad."""

  cfg: Config

  @nn.compact
  def __call__(self, text_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
    c, d = self.cfg, self.cfg.text_width
    token = layers.Embedding(c.text_vocab + c.text, d, 0.02, ("vocab", "embed"), c.dtype, name="token")
    position = layers.Embedding(c.text, d, 0.01, ("position", "embed"), c.dtype, name="position")
    x_BTD = token(text_BT) + position.table()[None]
    x_BTD = Tower(c, d, c.text_heads, c.text_layers, causal=True, name="tower")(x_BTD)
    end_B = jnp.argmax(text_BT >= c.text_vocab, axis=1)
    x_BD = jnp.take_along_axis(x_BTD, end_B[:, None, None], axis=1)[:, 0]
    x_BD = layers.Norm("float32", name="norm_out")(x_BD)
    return layers.Linear((d, c.embed), ("embed", None), d**-0.5, "float32", bias=False, name="head")(x_BD)


class Clip(nn.Module):
  """Both towers and the temperature."""

  cfg: Config

  def setup(self) -> None:
    self.vision = Vision(self.cfg)
    self.text = Text(self.cfg)
    self.logit_scale = self.param("logit_scale", axes(nn.initializers.constant(math.log(1 / 0.07))), ())

  def __call__(
    self, images_BHWC: Float[Array, "B H W 3"], text_NT: Int[Array, "N T"]
  ) -> tuple[Float[Array, "B E"], Float[Array, "N E"], Scalar]:
    """Unit vectors of pictures and captions, as many as there are of each, and their products' factor."""
    return self.encode_image(images_BHWC), self.encode_text(text_NT), self.scale()

  def encode_image(self, images_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B E"]:
    """Float32 unit vectors of pictures in [0, 1]."""
    return _normalise(self.vision(images_BHWC))

  def encode_text(self, text_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
    """Float32 unit vectors of captions, each of which holds at least one pad."""
    return _normalise(self.text(text_BT))

  def scale(self) -> Scalar:
    """exp(logit_scale), at most 100."""
    return jnp.exp(_at_most(self.logit_scale, math.log(MAX_SCALE)))


def _normalise(x_BE: Float[Array, "B E"]) -> Float[Array, "B E"]:
  return x_BE * jax.lax.rsqrt(jnp.sum(jnp.square(x_BE), axis=-1, keepdims=True) + 1e-12)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _at_most(x: Scalar, limit: float) -> Scalar:
  """min(x, limit) whose gradient above the limit is cut only where it pushes further up.

  The plain minimum has no gradient above the limit, so an update that overshoots it would never be taken back.
  """
  return jnp.minimum(x, limit)


def _at_most_forward(x: Scalar, limit: float) -> tuple[Scalar, Scalar]:
  return jnp.minimum(x, limit), x


def _at_most_backward(limit: float, x: Scalar, gradient: Scalar) -> tuple[Scalar]:
  return (jnp.where(x >= limit, jnp.maximum(gradient, 0), gradient),)


_at_most.defvjp(_at_most_forward, _at_most_backward)
