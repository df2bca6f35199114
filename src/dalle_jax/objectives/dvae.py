"""The first stage's objective as published: the relaxed evidence lower bound of the discrete VAE (paper 2, A.2).

B batch, H W pixels, C channels, h w code grid, V codebook, S pixel statistics.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.models import dvae, flops, vq
from dalle_jax.models.likelihoods import Likelihood, LogitLaplace
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.schedules import Schedule
from dalle_jax.sharding import unbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class DvaeObjective(FirstStage):
  """What trains a dVAE: its sizes, and how its parameters begin."""

  model: dvae.Config

  def init(self, key: PRNGKeyArray) -> PyTree:
    """Boxed parameters."""
    side = self.model.image
    return self._network().init(key, jnp.zeros((1, side, side, 3)))["params"]

  def flops(self) -> int:
    """Of a training example, see `models.flops`."""
    return 3 * sum(self._forward_flops())

  def _forward_flops(self) -> tuple[int, int]:
    """Of the encoder and of the decoder."""
    params = unbox(jax.eval_shape(self.init, jax.random.key(0)))
    m, side = self.model, self.model.image
    images, codes = (
      jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in ((side, side, 3), (m.grid, m.grid, m.vocab))
    )
    encode, decode = (functools.partial(self._apply, method=method) for method in ("encode", "decode"))
    return flops.of_products(encode, params, images), flops.of_products(decode, params, codes)

  def _apply(self, params: PyTree, x: Array, method: str) -> Array:
    return self._network().apply({"params": params}, x, method=method)

  def _network(self) -> dvae.Dvae | vq.Vq:
    return dvae.Dvae(self.model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DvaeElbo(DvaeObjective):
  """Minimises mean NLL a sub-pixel + beta * (positions / sub-pixels) * mean KL a position.

  kl: beta by step (the paper: 0 to 6.6 over 5,000 steps); temperature: of the soft Gumbel relaxation by step (1 to 1/16
  over 150,000); likelihood: of the pixels; spread_levels: they are spread over their levels first, for drawn pictures,
  of whose flat colours a density has no bound. A batch is {"image": uint8 BHWC}.
  """

  kl: Schedule
  temperature: Schedule
  likelihood: Likelihood = dataclasses.field(default_factory=LogitLaplace)
  spread_levels: bool = False

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss in nats a sub-pixel and its parts; `codebook_*` are of the batch's most likely codes."""
    x_BHWC = dvae.map_pixels(batch["image"])
    beta, temperature = self.kl(step), self.temperature(step)
    logits_BhwV = self._apply(params, x_BHWC, method="encode")
    y_BhwV = jax.nn.softmax((logits_BhwV + jax.random.gumbel(key, logits_BhwV.shape)) / temperature)
    nll = self._nll(x_BHWC, self._apply(params, y_BhwV, method="decode"), key)
    kl = jnp.mean(dvae.kl_to_uniform(logits_BhwV))
    loss = nll + beta * self.model.positions_per_subpixel * kl
    counts_V = count_codes(jnp.argmax(logits_BhwV, axis=-1), self.model.vocab)
    metrics = {"loss": loss, "nll": nll, "kl": kl, "beta": beta, "temperature": temperature}
    return loss, metrics | {"codebook_perplexity": perplexity(counts_V), "codebook_usage": jnp.mean(counts_V > 0)}

  def _nll(self, x_BHWC: Array, stats_BHWS: Array, key: PRNGKeyArray) -> Scalar:
    """Mean over sub-pixels."""
    return mean_nll(self.likelihood, x_BHWC, stats_BHWS, jax.random.fold_in(key, 1) if self.spread_levels else None)

  def evaluate(
    self, params: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[dict[str, Scalar], Int[Array, " V"]]:
    """The bound with relaxed and with sampled hard codes, what the most likely codes reconstruct, and their counts.

    `elbo_*` are at beta = 1, in nats a sub-pixel: -mean NLL - (positions / sub-pixels) * mean KL; `elbo_hard` is a true
    bound, because hard codes drawn by the Gumbel-max trick follow the very categorical whose KL is taken. `outside` is
    the share of the likelihood's mass that is on no pixel.
    """
    x_BHWC = dvae.map_pixels(batch["image"])
    logits_BhwV = self._apply(params, x_BHWC, method="encode")
    noisy_BhwV = logits_BhwV + jax.random.gumbel(key, logits_BhwV.shape)
    relaxed = self._apply(params, jax.nn.softmax(noisy_BhwV / self.temperature(step)), method="decode")
    sampled = self._apply(params, jnp.argmax(noisy_BhwV, axis=-1), method="decode_codes")
    codes_Bhw = jnp.argmax(logits_BhwV, axis=-1)
    likely = self._apply(params, codes_Bhw, method="decode_codes")
    kl = jnp.mean(dvae.kl_to_uniform(logits_BhwV))
    rate = self.model.positions_per_subpixel * kl
    metrics = {
      "kl": kl,
      "nll": self._nll(x_BHWC, likely, key),
      "elbo_relaxed": -self._nll(x_BHWC, relaxed, key) - rate,
      "elbo_hard": -self._nll(x_BHWC, sampled, key) - rate,
      "outside": jnp.mean(self.likelihood.outside(likely)),
      "psnr": dvae.psnr(dvae.unmap_pixels(x_BHWC), dvae.reconstruct(likely)),
    }
    return metrics, count_codes(codes_Bhw, self.model.vocab)


def mean_nll(likelihood: Likelihood, x_BHWC: Array, stats_BHWS: Array, key: PRNGKeyArray | None) -> Scalar:
  """Nats a sub-pixel, of pixels that are spread over their levels where there is a key."""
  return jnp.mean(likelihood.nll(x_BHWC if key is None else dvae.spread_levels(x_BHWC, key), stats_BHWS))


def count_codes(codes_Bhw: Int[Array, "B h w"], vocab: int) -> Int[Array, " V"]:
  """How often each code occurs."""
  return jnp.zeros(vocab, jnp.int32).at[codes_Bhw].add(1)


def perplexity(counts_V: Int[Array, " V"]) -> Scalar:
  """exp of the entropy of the codes' frequencies: `vocab` where all are used alike, 1 where only one is."""
  p_V = counts_V / jnp.sum(counts_V)
  return jnp.exp(-jnp.sum(p_V * jnp.log(jnp.maximum(p_V, 1e-12))))
