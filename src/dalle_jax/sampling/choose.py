"""One token from its logits: temperature, top-k, top-p, and noise that belongs to the sample, not to its batch.

    scaled = logits / temperature
    kept   = the top_k largest of scaled, and of those the fewest that hold top_p of the probability
    token  = argmax(kept + Gumbel noise)          which draws from softmax(kept)

Noise is a function of (seed, caption's number, sample's number, token's position), so a sample comes out the same
whatever batch it is drawn in.

B rows of the batch, V codebook.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dalle_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
  """How tokens are drawn. The paper's own way is the default: temperature 1, nothing left out (paper 5).

  temperature: 0 takes the most likely token; top_k: only the k most likely; top_p: only the fewest that hold p;
  guidance: how far from the logits without the caption towards those with it, and past them where it is above 1.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float | None = None
  guidance: float = 1.0

  def __post_init__(self) -> None:
    if not (math.isfinite(self.temperature) and self.temperature >= 0):
      raise UserError(f"got temperature={self.temperature}, wanted 0 (the most likely token) or more")
    if not (math.isfinite(self.guidance) and self.guidance >= 0):
      raise UserError(f"got guidance={self.guidance}, wanted 1 (none) or more, or 0 to draw without the caption")
    if self.top_k is not None and self.top_k < 1:
      raise UserError(f"got top_k={self.top_k}, wanted 1 or more, or leave it out")
    if self.top_p is not None and not 0 < self.top_p <= 1:
      raise UserError(f"got top_p={self.top_p}, wanted more than 0 and at most 1, or leave it out")


def seeded(seed: int) -> Key[Array, ""]:
  """The key of a seed. Raises UserError for one that JAX would shorten, and draw what another draws."""
  if not 0 <= seed < 2**32:
    raise UserError(f"got the seed {seed}, wanted 0 to {2**32 - 1}")
  return jax.random.key(seed)


def sample_keys(key: Key[Array, ""], caption_B: Int[Array, " B"], sample_B: Int[Array, " B"]) -> Key[Array, " B"]:
  """A key for each row, made of the seed's key, the caption's number and the sample's number."""
  return jax.vmap(lambda c, s: jax.random.fold_in(jax.random.fold_in(key, c), s))(caption_B, sample_B)


def gumbel_noise(keys_B: Key[Array, " B"], position: Int[Array, ""] | int, vocab: int) -> Float[Array, "B V"]:
  """Float32 noise for the token at `position` of each sample."""
  return jax.vmap(lambda k: jax.random.gumbel(jax.random.fold_in(k, position), (vocab,), jnp.float32))(keys_B)


def keep_likely(scaled_BV: Float[Array, "B V"], cfg: SamplingConfig) -> Float[Array, "B V"]:
  """The logits, -inf where top-k or top-p leave a token out. What ties with the last one kept is kept too."""
  if cfg.top_k is not None and cfg.top_k < scaled_BV.shape[-1]:
    least_B1 = jax.lax.top_k(scaled_BV, cfg.top_k)[0][:, -1:]
    scaled_BV = jnp.where(scaled_BV >= least_B1, scaled_BV, -jnp.inf)
  if cfg.top_p is not None and cfg.top_p < 1:
    sorted_BV = -jnp.sort(-scaled_BV, axis=-1)
    before_BV = jnp.cumsum(jax.nn.softmax(sorted_BV), axis=-1)[:, :-1]
    kept_B1 = jnp.sum(before_BV < cfg.top_p, axis=-1, keepdims=True)  # and the one that reaches p
    scaled_BV = jnp.where(scaled_BV >= jnp.take_along_axis(sorted_BV, kept_B1, axis=-1), scaled_BV, -jnp.inf)
  return scaled_BV


def guide(logits_RV: Float[Array, "R V"], cfg: SamplingConfig) -> Float[Array, "B V"]:
  """Classifier-free guidance: of R = 2 B rows, B with the caption and then B without, what is drawn from, in float32.

  without + guidance (with - without)
  """
  told_BV, untold_BV = jnp.split(logits_RV.astype(jnp.float32), 2)
  return untold_BV + cfg.guidance * (told_BV - untold_BV)


def choose(
  logits_BV: Float[Array, "B V"], keys_B: Key[Array, " B"], position: Int[Array, ""] | int, cfg: SamplingConfig
) -> Int[Array, " B"]:
  """The token at `position` of each sample."""
  logits_BV = logits_BV.astype(jnp.float32)
  if cfg.temperature == 0:
    return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
  kept_BV = keep_likely(logits_BV / cfg.temperature, cfg)
  noise_BV = gumbel_noise(keys_B, position, logits_BV.shape[-1])
  return jnp.argmax(kept_BV + noise_BV, axis=-1).astype(jnp.int32)
