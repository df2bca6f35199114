"""OpenAI's discrete VAE: pixels to a grid of code logits, codes to the distribution of pixels (paper 2.1, A.2, A.3).

The encoder and the decoder are mirror images of pre-activation residual blocks without any normalisation; the decoder's
first 1x1 convolution is the codebook. That one and the encoder's last stay in float32 whatever the compute dtype is.

B batch, H W pixels, C channels, h w code grid, V codebook, S a pixel's six statistics (location, log-scale of R, G, B).
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, UInt8, UInt32

from dalle_jax.errors import UserError
from dalle_jax.sharding import axes, constrain, platform

PIXEL_MARGIN = 0.1  # the paper's epsilon: pixels are mapped into (0.1, 0.9), where the logit is tame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The published model's sizes. Each group of the encoder doubles `hidden`, and each but the last halves the side.

  pool: "max" as published, "average", or "fold" (four positions' features side by side: nothing is lost); code_kernel:
  side of the convolutions that make the codes' logits and read the codes; gain: what each residual branch is multiplied
  by, None for 1 / (groups * blocks)^2; remat: recompute each block's inside in the backward pass.
  """

  image: int = 256
  vocab: int = 8192
  hidden: int = 256
  groups: int = 4
  blocks: int = 2
  code_dim: int = 128
  pool: str = "max"
  code_kernel: int = 1
  gain: float | None = None
  dtype: str = "float32"
  remat: bool = False

  def __post_init__(self) -> None:
    for name in ("image", "vocab", "hidden", "groups", "blocks", "code_dim"):
      if getattr(self, name) < 1:
        raise UserError(f"the dVAE's {name} is {getattr(self, name)}: it must be at least 1")
    if self.image % 2 ** (self.groups - 1):
      raise UserError(
        f"pictures of {self.image} pixels can't be halved {self.groups - 1} times: change image or groups"
      )
    if self.hidden % 4:
      raise UserError(
        f"the dVAE's hidden is {self.hidden}: a block's inside is a quarter of it, so use a multiple of 4"
      )
    if self.pool not in ("max", "average", "fold"):
      raise UserError(f'the dVAE\'s pool is {self.pool!r}: "max", "average" or "fold" is wanted')
    if self.code_kernel < 1 or self.code_kernel % 2 == 0:
      raise UserError(f"the dVAE's code_kernel is {self.code_kernel}: an odd number, at least 1, is wanted")
    if self.gain is not None and not 0 < self.gain < math.inf:
      raise UserError(f"the dVAE's gain is {self.gain}: a positive number is wanted, or None")
    if self.dtype not in ("float32", "bfloat16"):
      raise UserError(f'the dVAE\'s dtype is {self.dtype!r}: "float32" or "bfloat16" is wanted')

  @property
  def grid(self) -> int:
    """Side of the grid of codes."""
    return self.image // 2 ** (self.groups - 1)

  @property
  def positions_per_subpixel(self) -> float:
    """Codes an image over the sub-pixels of an image: 1/192 as published."""
    return self.grid**2 / (self.image**2 * 3)

  @property
  def branch_gain(self) -> float:
    """What each residual branch is multiplied by: 1/64 as published."""
    return 1 / (self.groups * self.blocks) ** 2 if self.gain is None else self.gain


class Conv(nn.Module):
  """A convolution of stride 1 and "same" zero padding; weights N(0, 1/(n_in k^2)), bias 0."""

  features: int
  size: int
  dtype: str
  out_axis: str | None = "conv_out"

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
    k, n_in = self.size, x_BHWC.shape[-1]
    init = axes(nn.initializers.normal(1 / math.sqrt(n_in * k**2)), "height", "width", "conv_in", self.out_axis)
    kernel_kkCD = self.param("kernel", init, (k, k, n_in, self.features)).astype(self.dtype)
    bias_D = self.param("bias", axes(nn.initializers.zeros, self.out_axis), (self.features,)).astype(self.dtype)
    x_BHWC = x_BHWC.astype(self.dtype)
    if k == 1:
      y_BHWD = jnp.einsum("BHWC,CD->BHWD", x_BHWC, kernel_kkCD[0, 0])
    else:
      if n_in == 3 and 16 < self.features <= 32 and platform() == "cpu":
        # Of a picture's three channels XLA's CPU backend makes 33 features in a third of the time that 32 take it.
        kernel_kkCD = jnp.pad(kernel_kkCD, ((0, 0), (0, 0), (0, 0), (0, 33 - self.features)))
      y_BHWD = jax.lax.conv_general_dilated(
        x_BHWC, kernel_kkCD, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
      )[..., : self.features]
    return constrain(y_BHWD + bias_D[None, None, None], "batch", "height", "width", None)


class Block(nn.Module):
  """x + gain * branch(x), the branch four convolutions through a quarter of the features, each after a ReLU."""

  cfg: Config
  features: int
  sizes: tuple[int, int, int, int]

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
    widths = (self.features // 4,) * 3 + (self.features,)
    y = x_BHWC
    for i, (size, width) in enumerate(zip(self.sizes, widths), start=1):
      y = Conv(width, size, self.cfg.dtype, name=f"conv_{i}")(jax.nn.relu(y))
    if x_BHWC.shape[-1] != self.features:
      x_BHWC = Conv(self.features, 1, self.cfg.dtype, name="identity")(x_BHWC)
    return x_BHWC + self.cfg.branch_gain * y


class Group(nn.Module):
  """The blocks that share one resolution."""

  cfg: Config
  features: int
  sizes: tuple[int, int, int, int]

  @nn.compact
  def __call__(self, x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
    block = nn.remat(Block) if self.cfg.remat else Block
    for i in range(1, self.cfg.blocks + 1):
      x_BHWC = block(self.cfg, self.features, self.sizes, name=f"block_{i}")(x_BHWC)
    return x_BHWC


class Encoder(nn.Module):
  """Mapped pixels to code logits, or to as many channels as are asked for."""

  cfg: Config
  channels: int | None = None

  def setup(self) -> None:
    c = self.cfg
    self.input = Conv(c.hidden, 7, c.dtype)
    self.stack = [Group(c, c.hidden * 2**g, (3, 3, 3, 1), name=f"group_{g + 1}") for g in range(c.groups)]
    self.output = Conv(self.channels or c.vocab, c.code_kernel, "float32")

  def __call__(self, x_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w V"]:
    return self.output(self.features(x_BHWC))

  def features(self, x_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
    """What the last convolution reads."""
    x = self.input(x_BHWC)
    for i, group in enumerate(self.stack):
      x = _halve(group(x), self.cfg.pool) if i < len(self.stack) - 1 else group(x)
    return jax.nn.relu(x)


class Decoder(nn.Module):
  """Weights over the codebook, or codes, to the statistics of every pixel."""

  cfg: Config

  def setup(self) -> None:
    c = self.cfg
    features = [c.hidden * 2**g for g in reversed(range(c.groups))]
    self.codebook = Codebook(c, name="input")
    self.stack = [Group(c, f, (1, 3, 3, 3), name=f"group_{i + 1}") for i, f in enumerate(features)]
    self.output = Conv(6, 1, c.dtype, out_axis=None, name="output")  # six statistics split over no mesh

  def __call__(self, weights_BhwV: Float[Array, "B h w V"]) -> Float[Array, "B H W 6"]:
    return self.paint(self.codebook(weights_BhwV))

  def from_codes(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B H W 6"]:
    return self.paint(self.codebook.look_up(codes_Bhw))

  def paint(self, x_BhwC: Float[Array, "B h w C"]) -> Float[Array, "B H W 6"]:
    """What the codes' vectors are painted as."""
    x = x_BhwC.astype(self.cfg.dtype)
    for i, group in enumerate(self.stack):
      x = _double(group(x)) if i < len(self.stack) - 1 else group(x)
    return self.output(jax.nn.relu(x)).astype(jnp.float32)


class Codebook(nn.Module):
  """The decoder's first convolution, in float32: where it is 1x1, a vector for every code."""

  cfg: Config

  def setup(self) -> None:
    c, k = self.cfg, self.cfg.code_kernel
    init = axes(nn.initializers.normal(1 / math.sqrt(c.vocab * k**2)), "height", "width", "conv_in", "conv_out")
    self.kernel = self.param("kernel", init, (k, k, c.vocab, c.code_dim))
    self.bias = self.param("bias", axes(nn.initializers.zeros, "conv_out"), (c.code_dim,))

  def __call__(self, weights_BhwV: Float[Array, "B h w V"]) -> Float[Array, "B h w C"]:
    def mix(kernel_VC: Float[Array, "V C"]) -> Float[Array, "B h w C"]:
      return jnp.einsum("BhwV,VC->BhwC", weights_BhwV.astype(jnp.float32), kernel_VC)

    return self._sum(mix) + self.bias[None, None, None]

  def look_up(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B h w C"]:
    return self._sum(lambda kernel_VC: jnp.take(kernel_VC, codes_Bhw, axis=0)) + self.bias[None, None, None]

  def _sum(self, read: Callable[[Array], Array]) -> Float[Array, "B h w C"]:
    """What `read` makes of the kernel at each offset, moved by the offset and added up; zeros beyond the border."""
    k = self.cfg.code_kernel
    if k == 1:
      return read(self.kernel[0, 0])
    parts = [_moved(read(self.kernel[i, j]), i - k // 2, j - k // 2) for i in range(k) for j in range(k)]
    return sum(parts[1:], parts[0])


class Dvae(nn.Module):
  """Encoder and decoder; all methods take and return arrays, and know nothing of sampling or losses."""

  cfg: Config

  def setup(self) -> None:
    self.encoder = Encoder(self.cfg)
    self.decoder = Decoder(self.cfg)

  def __call__(self, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B H W 6"]:
    """The decoder on the encoder's posterior mean; it touches every parameter, so it serves to initialise."""
    return self.decode(jax.nn.softmax(self.encode(pixels_BHWC)))

  def encode(self, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w V"]:
    """Float32 logits of the codes for pixels in (0.1, 0.9)."""
    return self.encoder(pixels_BHWC)

  def features(self, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
    """What the encoder's last convolution makes logits of."""
    return self.encoder.features(pixels_BHWC)

  def decode(self, weights_BhwV: Float[Array, "B h w V"]) -> Float[Array, "B H W 6"]:
    """Float32 location (3 channels) and log-scale (3 channels) of each pixel's logit, for weights over the codebook."""
    return self.decoder(weights_BhwV)

  def decode_codes(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B H W 6"]:
    """`decode` of one-hot codes by looking the codes up."""
    return self.decoder.from_codes(codes_Bhw)


def map_pixels(images_BHWC: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
  """Pixels 0..255 to [0.1, 0.9] (paper A.3)."""
  return (1 - 2 * PIXEL_MARGIN) / 255 * images_BHWC.astype(jnp.float32) + PIXEL_MARGIN


def spread_levels(x_BHWC: Float[Array, "B H W 3"], key: PRNGKeyArray) -> Float[Array, "B H W 3"]:
  """Mapped pixels, each moved to a random place within its level of the 256, so that no density of them is boundless.

  Under a density's mean over such places, E[-ln f] - ln(level) bounds the pixels' own -ln P from above; a level is
  0.8 / 255, so that E[-ln f] can't fall below -5.76 nats a sub-pixel.
  """
  return x_BHWC + (1 - 2 * PIXEL_MARGIN) / 255 * jax.random.uniform(key, x_BHWC.shape, minval=-0.5, maxval=0.5)


def unmap_pixels(x_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
  """[0.1, 0.9] to [0, 1], clipping what lies outside."""
  return jnp.clip((x_BHWC - PIXEL_MARGIN) / (1 - 2 * PIXEL_MARGIN), 0, 1)


def logit_laplace_nll(x_BHWC: Float[Array, "B H W 3"], stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
  """Negative log-density, in nats a sub-pixel, of mapped pixels under the logit-Laplace distribution (paper A.3).

  -ln f = ln 2 + ln b + ln x + ln(1-x) + |logit(x) - mu| / b.
  """
  mu_BHWC, log_b_BHWC = jnp.split(stats_BHWS, 2, axis=-1)
  log_x_BHWC, log_not_x_BHWC = jnp.log(x_BHWC), jnp.log1p(-x_BHWC)
  distance_BHWC = jnp.abs(log_x_BHWC - log_not_x_BHWC - mu_BHWC)
  return math.log(2) + log_b_BHWC + log_x_BHWC + log_not_x_BHWC + distance_BHWC * jnp.exp(-log_b_BHWC)


def kl_to_uniform(logits_BhwV: Float[Array, "B h w V"]) -> Float[Array, "B h w"]:
  """KL, in nats a position, of the categorical with these logits to the uniform one: ln V - H (paper 2.3)."""
  log_q_BhwV = jax.nn.log_softmax(logits_BhwV)
  return math.log(logits_BhwV.shape[-1]) + jnp.sum(jnp.exp(log_q_BhwV) * log_q_BhwV, axis=-1)


def reconstruct(stats_BHWS: Float[Array, "B H W 6"]) -> Float[Array, "B H W 3"]:
  """The decoder's point estimate of a picture, in [0, 1]: the scale is ignored."""
  return unmap_pixels(jax.nn.sigmoid(stats_BHWS[..., :3]))


def psnr(images_BHWC: Float[Array, "B H W 3"], others_BHWC: Float[Array, "B H W 3"]) -> Scalar:
  """Peak signal-to-noise ratio in dB of pictures in [0, 1], from the mean squared error over the whole batch."""
  return -10 * jnp.log10(jnp.maximum(jnp.mean(jnp.square(images_BHWC - others_BHWC)), 1e-12))


@functools.partial(jax.jit, static_argnames="cfg")
def encode_images(params: PyTree, cfg: Config, images_BHWC: UInt8[Array, "B H W 3"]) -> Int[Array, "B h w"]:
  """The codes of pictures: the most likely one at each position, no noise (paper 2.3)."""
  logits_BhwV = Dvae(cfg).apply({"params": params}, map_pixels(images_BHWC), method="encode")
  return jnp.argmax(logits_BhwV, axis=-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="cfg")
def sample_codes(
  params: PyTree, cfg: Config, images_BHWC: UInt8[Array, "B H W 3"], seed_B: UInt32[Array, " B"]
) -> Int[Array, "B h w"]:
  """The codes of pictures, each position's drawn from its categorical with noise of the picture's own seed.

  What the authors weighed against the most likely codes for models that over-fit (openai/DALL-E, issue 16).
  """
  logits_BhwV = Dvae(cfg).apply({"params": params}, map_pixels(images_BHWC), method="encode")
  noise = lambda seed: jax.random.gumbel(jax.random.key(seed), logits_BhwV.shape[1:], jnp.float32)  # noqa: E731
  return jnp.argmax(logits_BhwV + jax.vmap(noise)(seed_B), axis=-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="cfg")
def decode_images(params: PyTree, cfg: Config, codes_Bhw: Int[Array, "B h w"]) -> UInt8[Array, "B H W 3"]:
  """The pictures that codes stand for, as 8-bit RGB."""
  stats_BHWS = Dvae(cfg).apply({"params": params}, codes_Bhw, method="decode_codes")
  return jnp.round(reconstruct(stats_BHWS) * 255).astype(jnp.uint8)


def _moved(x_BhwC: Float[Array, "B h w C"], down: int, right: int) -> Float[Array, "B h w C"]:
  """At each position what lies so far below and to the right of it, zeros beyond the border."""
  _, h, w, _ = x_BhwC.shape
  sides = [(max(-n, 0), max(n, 0)) for n in (down, right)]
  padded = jnp.pad(x_BhwC, ((0, 0), *sides, (0, 0)))
  return padded[:, max(down, 0) :, max(right, 0) :][:, :h, :w]


def _halve(x_BHWC: Float[Array, "B H W C"], pool: str) -> Float[Array, "B H2 W2 D"]:
  """2x2 positions without overlap made one: by their maximum, written as a reduction, whose gradient is cheap on every
  backend; by their mean; or by holding all four's features.
  """
  b, h, w, c = x_BHWC.shape
  x_BHpWpC = x_BHWC.reshape(b, h // 2, 2, w // 2, 2, c)
  if pool == "fold":
    return x_BHpWpC.swapaxes(2, 3).reshape(b, h // 2, w // 2, 4 * c)
  return x_BHpWpC.mean((2, 4)) if pool == "average" else x_BHpWpC.max((2, 4))


def _double(x_BHWC: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
  """Nearest-neighbour upsampling by 2."""
  b, h, w, c = x_BHWC.shape
  x_BHpWpC = jnp.broadcast_to(x_BHWC[:, :, None, :, None], (b, h, 2, w, 2, c))
  return x_BHpWpC.reshape(b, 2 * h, 2 * w, c)
