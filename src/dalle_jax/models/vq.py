"""A VQ-VAE in the dVAE's clothes: the same encoder and decoder, and between them the nearest of V vectors.

What the dVAE's relaxation is compared with (van den Oord, Vinyals and Kavukcuoglu 2017, 3.2 and appendix A.1): the
encoder gives a vector for each position instead of logits, and the codebook holds the vectors and how often each was
the nearest lately. No gradient reaches it: `averaged` moves it.

B batch, H W pixels, h w code grid, P positions of a batch, C vector, V codebook, S pixel statistics.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, UInt8

from dalle_jax.errors import UserError
from dalle_jax.models import dvae
from dalle_jax.sharding import axes

SPREAD = 0.4  # of the vectors at first: about that of what the encoder gives before it is trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class VqConfig(dvae.Config):
  """The dVAE's sizes; code_dim is that of the vectors."""

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.code_kernel != 1:
      raise UserError(f"a VQ-VAE has a vector for every code: got code_kernel {self.code_kernel}, wanted 1")


class VqCodebook(nn.Module):
  """The vectors, and moving averages of how many positions a batch each is the nearest of."""

  cfg: VqConfig

  def setup(self) -> None:
    c = self.cfg
    self.vectors = self.param(
      "vectors", axes(nn.initializers.normal(SPREAD), "conv_in", "conv_out"), (c.vocab, c.code_dim)
    )
    self.counts = self.param("counts", axes(nn.initializers.ones, "conv_in"), (c.vocab,))

  def nearest(self, z_BhwC: Float[Array, "B h w C"]) -> Int[Array, "B h w"]:
    products_BhwV = jnp.einsum("BhwC,VC->BhwV", z_BhwC, self.vectors, precision=jax.lax.Precision.HIGHEST)
    squares_V = jnp.sum(jnp.square(self.vectors), axis=-1)
    return jnp.argmin(squares_V[None, None, None] - 2 * products_BhwV, axis=-1).astype(jnp.int32)

  def look_up(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B h w C"]:
    return jnp.take(self.vectors, codes_Bhw, axis=0)


class Vq(nn.Module):
  """Encoder, codebook and decoder."""

  cfg: VqConfig

  def setup(self) -> None:
    self.encoder = dvae.Encoder(self.cfg, channels=self.cfg.code_dim)
    self.codebook = VqCodebook(self.cfg)
    self.decoder = dvae.Decoder(self.cfg)

  def __call__(self, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B H W 6"]:
    """Pixels through codes to statistics; it touches every parameter, so it serves to initialise."""
    return self.decode_codes(self.codes(pixels_BHWC))

  def encode(self, pixels_BHWC: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
    """A float32 vector for each position, of pixels in (0.1, 0.9)."""
    return self.encoder(pixels_BHWC)

  def nearest(self, z_BhwC: Float[Array, "B h w C"]) -> Int[Array, "B h w"]:
    """The codes whose vectors are the nearest."""
    return self.codebook.nearest(z_BhwC)

  def codes(self, pixels_BHWC: Float[Array, "B H W 3"]) -> Int[Array, "B h w"]:
    """The codes of pixels in (0.1, 0.9)."""
    return self.nearest(self.encode(pixels_BHWC))

  def look_up(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B h w C"]:
    """The codes' vectors."""
    return self.codebook.look_up(codes_Bhw)

  def decode(self, vectors_BhwC: Float[Array, "B h w C"]) -> Float[Array, "B H W 6"]:
    """Float32 location and log-scale of each pixel's logit, as of `Dvae.decode`, for vectors."""
    return self.decoder.paint(vectors_BhwC)

  def decode_codes(self, codes_Bhw: Int[Array, "B h w"]) -> Float[Array, "B H W 6"]:
    """`decode` of the codes' vectors."""
    return self.decode(self.look_up(codes_Bhw))


def averaged(
  vectors_VC: Float[Array, "V C"],
  counts_V: Float[Array, " V"],
  z_PC: Float[Array, "P C"],
  codes_P: Int[Array, " P"],
  decay: float,
) -> tuple[Float[Array, "V C"], Float[Array, " V"]]:
  """The codebook after a batch: each vector the moving average of the encoder's that it was the nearest of.

  N = decay N + (1 - decay) n and m = decay m + (1 - decay) sum z with vectors m / N (appendix A.1), written without m,
  so that a code that is never the nearest stays where it is, and does not become nothing divided by nothing.
  """
  n_V = jnp.zeros_like(counts_V).at[codes_P].add(1.0)
  sums_VC = jnp.zeros_like(vectors_VC).at[codes_P].add(z_PC)
  counts_V = decay * counts_V + (1 - decay) * n_V
  towards_VC = (sums_VC - n_V[:, None] * vectors_VC) / jnp.where(n_V > 0, counts_V, 1.0)[:, None]
  return vectors_VC + (1 - decay) * towards_VC, counts_V


@functools.partial(jax.jit, static_argnames="cfg")
def encode_images(params: PyTree, cfg: VqConfig, images_BHWC: UInt8[Array, "B H W 3"]) -> Int[Array, "B h w"]:
  """The codes of pictures."""
  return Vq(cfg).apply({"params": params}, dvae.map_pixels(images_BHWC), method="codes")


@functools.partial(jax.jit, static_argnames="cfg")
def decode_images(params: PyTree, cfg: VqConfig, codes_Bhw: Int[Array, "B h w"]) -> UInt8[Array, "B H W 3"]:
  """The pictures that codes stand for, as 8-bit RGB."""
  stats_BHWS = Vq(cfg).apply({"params": params}, codes_Bhw, method="decode_codes")
  return jnp.round(dvae.reconstruct(stats_BHWS) * 255).astype(jnp.uint8)
