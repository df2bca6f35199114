"""VQGAN, as an image tokenizer that is used and not trained (Esser, Rombach, Ommer 2021, "Taming Transformers").

Pixels go through residual and attention blocks to a grid of vectors, each of which becomes a code: the nearest vector
of the codebook, or, in the Gumbel variant, the likeliest of a 1x1 convolution's logits. Codes come back as pixels.
Everything is float32 at full precision, so that all devices make the same codes of a picture.

B batch, H W pixels, C D channels, h w code grid, N M positions of a grid, V codebook.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, UInt8

from dalle_jax.errors import UserError
from dalle_jax.sharding import axes, constrain

GROUPS = 32  # of every normalisation
EXACT = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True, kw_only=True)
class VqganConfig:
  """The sizes of f16 with 16,384 codes. Each level but the last halves the side.

  image: side of the pictures that an experiment crops to; any multiple of `factor` can be coded. code_dim: of the
  codebook's vectors; latent: channels between the codebook's 1x1 convolutions and the networks; width: channels of the
  first level, times the level's `multiples`; attention: levels with attention blocks after their residual ones.
  all_attention: after each residual block all attention blocks of its level, in place of the block's own: what
  vqgan-jax computes. low: what black pixels are mapped to (white ones to 1). epsilon: of the normalisations.
  encoder: False where the weights can only decode.
  """

  image: int = 256
  vocab: int = 16384
  code_dim: int = 256
  latent: int = 256
  width: int = 128
  multiples: tuple[int, ...] = (1, 1, 2, 2, 4)
  blocks: int = 2
  attention: tuple[int, ...] = (4,)
  gumbel: bool = False
  all_attention: bool = False
  low: float = -1.0
  epsilon: float = 1e-6
  encoder: bool = True

  def __post_init__(self) -> None:
    for name in ("image", "vocab", "code_dim", "latent", "width", "blocks"):
      if getattr(self, name) < 1:
        raise UserError(f"the VQGAN's {name} is {getattr(self, name)}: it must be at least 1")
    if not self.multiples or min(self.multiples) < 1:
      raise UserError(f"the VQGAN's multiples are {self.multiples}: one or more are wanted, each at least 1")
    if self.width % GROUPS:
      raise UserError(f"the VQGAN's width is {self.width}: it is normalised in {GROUPS} groups, use a multiple of that")
    if any(not 0 <= level < len(self.multiples) for level in self.attention):
      raise UserError(
        f"the VQGAN has attention at levels {self.attention}, its levels are 0 to {len(self.multiples) - 1}"
      )
    if self.image % self.factor:
      raise UserError(f"pictures of {self.image} pixels can't be halved {len(self.multiples) - 1} times: change image")
    if self.low not in (-1.0, 0.0):
      raise UserError(f"the VQGAN's black pixels are {self.low}: -1 or 0 is wanted")

  @property
  def factor(self) -> int:
    """Pixels a code, along a side."""
    return 2 ** (len(self.multiples) - 1)

  @property
  def grid(self) -> int:
    """Side of the grid of codes."""
    return self.image // self.factor


class Conv(nn.Module):
  """A convolution: "same" zero padding; of stride 2, a row and a column of zeros after the last."""

  features: int
  size: int
  stride: int = 1

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 D"]:
    shape = (self.size, self.size, x_BHWC.shape[-1], self.features)
    kernel_kkCD = self.param("kernel", axes(nn.initializers.lecun_normal(), None, None, None, None), shape)
    bias_D = self.param("bias", axes(nn.initializers.zeros, None), (self.features,))
    pad = (0, 1) if self.stride == 2 else (self.size // 2, self.size // 2)
    y_BHWD = jax.lax.conv_general_dilated(
      x_BHWC,
      kernel_kkCD,
      window_strides=(self.stride, self.stride),
      padding=(pad, pad),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision=EXACT,
    )
    return constrain(y_BHWD + bias_D[None, None, None], "batch", "height", "width", None)


class Norm(nn.Module):
  """Each picture's groups of channels brought to mean 0 and variance 1 over all positions."""

  epsilon: float

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    b, h, w, c = x_BHWC.shape
    scale_C = self.param("scale", axes(nn.initializers.ones, None), (c,))
    bias_C = self.param("bias", axes(nn.initializers.zeros, None), (c,))
    x_BHWgc = x_BHWC.reshape(b, h, w, GROUPS, c // GROUPS)
    centred = x_BHWgc - jnp.mean(x_BHWgc, (1, 2, 4), keepdims=True)
    variance = jnp.mean(jnp.square(centred), (1, 2, 4), keepdims=True)
    y_BHWC = (centred * jax.lax.rsqrt(variance + self.epsilon)).reshape(b, h, w, c)
    return y_BHWC * scale_C[None, None, None] + bias_C[None, None, None]


class Block(nn.Module):
  """x plus two convolutions of it, each after a normalisation and a swish."""

  cfg: VqganConfig
  features: int

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
    y = x_BHWC
    for i in (1, 2):
      y = Conv(self.features, 3, name=f"conv{i}")(jax.nn.swish(Norm(self.cfg.epsilon, name=f"norm{i}")(y)))
    if x_BHWC.shape[-1] != self.features:
      x_BHWC = Conv(self.features, 1, name="nin_shortcut")(x_BHWC)
    return x_BHWC + y


class Attention(nn.Module):
  """x plus what one head, as wide as the channels, reads of all positions."""

  cfg: VqganConfig

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    b, h, w, c = x_BHWC.shape
    y_BHWC = Norm(self.cfg.epsilon, name="norm")(x_BHWC)
    q_BNC, k_BMC, v_BMC = (Conv(c, 1, name=name)(y_BHWC).reshape(b, h * w, c) for name in "qkv")
    weights_BNM = jax.nn.softmax(jnp.einsum("BNC,BMC->BNM", q_BNC, k_BMC, precision=EXACT) * c**-0.5)
    read_BNC = jnp.einsum("BNM,BMC->BNC", weights_BNM, v_BMC, precision=EXACT)
    return x_BHWC + Conv(c, 1, name="proj_out")(read_BNC.reshape(b, h, w, c))


class Level(nn.Module):
  """The blocks that share one resolution, and, named by `resize`, what leads to the next."""

  cfg: VqganConfig
  index: int
  blocks: int
  resize: str | None

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 D"]:
    c, x = self.cfg, x_BHWC
    features = c.width * c.multiples[self.index]
    attention = [Attention(c, name=f"attn_{i}") for i in range(self.blocks) if self.index in c.attention]
    for i in range(self.blocks):
      x = Block(c, features, name=f"block_{i}")(x)
      for attend in attention if c.all_attention else attention[i : i + 1]:
        x = attend(x)
    if self.resize == "downsample":
      return Conv(features, 3, stride=2, name="downsample")(x)
    if self.resize == "upsample":
      return Conv(features, 3, name="upsample")(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))
    return x


class Middle(nn.Module):
  """A residual block, an attention block and a residual block at the lowest resolution."""

  cfg: VqganConfig

  @nn.compact
  def __call__(self, x_BhwC: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
    c, features = self.cfg, x_BhwC.shape[-1]
    x_BhwC = Attention(c, name="attn_1")(Block(c, features, name="block_1")(x_BhwC))
    return Block(c, features, name="block_2")(x_BhwC)


class Encoder(nn.Module):
  """Mapped pixels to latents."""

  cfg: VqganConfig

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
    c = self.cfg
    x = Conv(c.width, 3, name="conv_in")(x_BHWC)
    for i in range(len(c.multiples)):
      x = Level(c, i, c.blocks, None if i == len(c.multiples) - 1 else "downsample", name=f"down_{i}")(x)
    x = jax.nn.swish(Norm(c.epsilon, name="norm_out")(Middle(c, name="mid")(x)))
    return Conv(c.latent, 3, name="conv_out")(x)


class Decoder(nn.Module):
  """Latents to mapped pixels. Its levels have one block more than the encoder's."""

  cfg: VqganConfig

  @nn.compact
  def __call__(self, x_BhwC: Float[Array, "B h w C"]) -> Float[Array, "B H W 3"]:
    c = self.cfg
    x = Middle(c, name="mid")(Conv(c.width * c.multiples[-1], 3, name="conv_in")(x_BhwC))
    for i in reversed(range(len(c.multiples))):
      x = Level(c, i, c.blocks + 1, "upsample" if i else None, name=f"up_{i}")(x)
    return Conv(3, 3, name="conv_out")(jax.nn.swish(Norm(c.epsilon, name="norm_out")(x)))


class Quantizer(nn.Module):
  """The codebook, and which of its vectors stands for a latent one."""

  cfg: VqganConfig

  def setup(self) -> None:
    c = self.cfg
    init = axes(nn.initializers.normal(c.code_dim**-0.5), None, None)
    self.embedding = self.param("embedding", init, (c.vocab, c.code_dim))
    if c.gumbel and c.encoder:
      self.proj = Conv(c.vocab, 1)

  def scores(self, z_BhwC: Float[Array, "B h w C"]) -> Float[Array, "B h w V"]:
    """The code at each position is that of the highest: logits, or minus the squared distance less what is common."""
    if self.cfg.gumbel:
      return self.proj(z_BhwC)
    squares_V = jnp.sum(jnp.square(self.embedding), axis=1)
    return 2 * jnp.einsum("BhwC,VC->BhwV", z_BhwC, self.embedding, precision=EXACT) - squares_V[None, None, None]

  def look_up(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B h w C"]:
    return jnp.take(self.embedding, codes_Bhw, axis=0)


class Vqgan(nn.Module):
  """Encoder, quantizer and decoder."""

  cfg: VqganConfig

  def setup(self) -> None:
    c = self.cfg
    if c.encoder:
      self.encoder = Encoder(c)
      self.quant_conv = Conv(c.code_dim, 1)
    self.quantize = Quantizer(c)
    self.post_quant_conv = Conv(c.latent, 1)
    self.decoder = Decoder(c)

  def __call__(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B H W 3"]:
    """What is made of codes, encoded and decoded again where there is an encoder: for the parameters' shapes."""
    x_BHWC = self.decode_codes(codes_Bhw)
    return self.decode_codes(jnp.argmax(self.scores(x_BHWC), axis=-1)) if self.cfg.encoder else x_BHWC

  def scores(self, x_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w V"]:
    """Of each code at each position; the highest is the position's code."""
    return self.quantize.scores(self.latents(x_BHWC))

  def latents(self, x_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
    """What is quantized."""
    return self.quant_conv(self.encoder(x_BHWC))

  def decode_codes(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B H W 3"]:
    """Pixels, mapped as the encoder's and not clipped."""
    return self.decoder(self.post_quant_conv(self.quantize.look_up(codes_Bhw)))


def init(key: Array, cfg: VqganConfig) -> PyTree:
  """Boxed parameters."""
  return Vqgan(cfg).init(key, jnp.zeros((1, 1, 1), jnp.int32))["params"]


def map_pixels(cfg: VqganConfig, images_BHWC: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
  """Pixels 0..255 to [low, 1]."""
  return images_BHWC.astype(jnp.float32) * ((1 - cfg.low) / 255) + cfg.low


def unmap_pixels(cfg: VqganConfig, x_BHWC: Float[Array, "B H W 3"]) -> UInt8[Array, "B H W 3"]:
  """[low, 1] to pixels 0..255, clipping what lies outside."""
  return jnp.round(jnp.clip((x_BHWC - cfg.low) / (1 - cfg.low), 0, 1) * 255).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnames="cfg")
def encode_images(params: PyTree, cfg: VqganConfig, images_BHWC: UInt8[Array, "B H W 3"]) -> Int[Array, "B h w"]:
  """The codes of pictures whose sides are multiples of `factor`. Raises UserError where the weights only decode."""
  if not cfg.encoder:
    raise UserError(
      "these weights of a VQGAN only decode: pictures can't be made codes by them; take a VQGAN with an encoder"
    )
  if images_BHWC.shape[1] % cfg.factor or images_BHWC.shape[2] % cfg.factor:
    sides = " by ".join(str(side) for side in images_BHWC.shape[1:3])
    raise UserError(f"got pictures of {sides} pixels, the VQGAN wants sides that are multiples of {cfg.factor}")
  scores_BhwV = Vqgan(cfg).apply({"params": params}, map_pixels(cfg, images_BHWC), method="scores")
  return jnp.argmax(scores_BhwV, axis=-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="cfg")
def decode_images(params: PyTree, cfg: VqganConfig, codes_Bhw: Int[Array, "B h w"]) -> UInt8[Array, "B H W 3"]:
  """The pictures that codes stand for, as 8-bit RGB."""
  return unmap_pixels(cfg, Vqgan(cfg).apply({"params": params}, codes_Bhw, method="decode_codes"))
