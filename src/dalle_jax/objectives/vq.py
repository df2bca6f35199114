"""A VQ-VAE's objective, beside the dVAE's relaxation: straight-through, commitment, a codebook of moving averages.

    e = the vector nearest to z = encoder(x)        q = z + stop(e - z)        decoder reads q
    loss = mean NLL a sub-pixel + commitment * (positions / sub-pixels) * mean |z - stop(e)|²

in the units of `DvaeElbo`. After each update the codebook moves by `models.vq.averaged`, not by its gradient, which is
zero (van den Oord, Vinyals and Kavukcuoglu 2017).

B batch, h w code grid, P positions of a batch, C vector, V codebook.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import dvae, flops, vq
from dalle_jax.models.likelihoods import Likelihood, LogitLaplace
from dalle_jax.objectives.dvae import DvaeObjective, count_codes, mean_nll, perplexity
from dalle_jax.sharding import unbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class VqVae(DvaeObjective):
  """Trains encoder and decoder by the loss above, and the codebook by moving averages.

  commitment: weight of the encoder's distance from its codes; decay: of the moving averages; revive: a code that
  is the nearest of fewer positions a batch, on average, is put where a random position of the batch is; 0 never;
  likelihood, spread_levels: as of DvaeElbo. A batch is {"image": uint8 BHWC}.
  """

  model: vq.VqConfig
  commitment: float = 0.25
  decay: float = 0.99
  revive: float = 0.0
  likelihood: Likelihood = dataclasses.field(default_factory=LogitLaplace)
  spread_levels: bool = False

  def __post_init__(self) -> None:
    if not 0 <= self.decay < 1:
      raise UserError(f"the codebook's decay is {self.decay}: 0 or more and less than 1 is wanted")
    for name in ("commitment", "revive"):
      if not 0 <= getattr(self, name) < math.inf:
        raise UserError(f"the VQ-VAE's {name} is {getattr(self, name)}: 0 or more is wanted")

  def _network(self) -> vq.Vq:
    return vq.Vq(self.model)

  def _forward_flops(self) -> tuple[int, int]:
    """Of encoder and search, and of the decoder."""
    params = unbox(jax.eval_shape(self.init, jax.random.key(0)))
    m = self.model
    images = jax.ShapeDtypeStruct((1, m.image, m.image, 3), jnp.float32)
    vectors = jax.ShapeDtypeStruct((1, m.grid, m.grid, m.code_dim), jnp.float32)
    run = lambda method: lambda p, x: self._apply(p, x, method=method)  # noqa: E731
    return flops.of_products(run("codes"), params, images), flops.of_products(run("decode"), params, vectors)

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss in nats a sub-pixel and its parts; `distance` is the mean squared one of a position from its code."""
    x_BHWC = dvae.map_pixels(batch["image"])
    z_BhwC = self._apply(params, x_BHWC, method="encode")
    held = jax.lax.stop_gradient(params)
    codes_Bhw = self._apply(held, jax.lax.stop_gradient(z_BhwC), method="nearest")
    e_BhwC = self._apply(held, codes_Bhw, method="look_up")
    q_BhwC = z_BhwC + jax.lax.stop_gradient(e_BhwC - z_BhwC)
    nll = self._nll(x_BHWC, self._apply(params, q_BhwC, method="decode"), key)
    distance = jnp.mean(jnp.sum(jnp.square(z_BhwC - e_BhwC), axis=-1))
    loss = nll + self.commitment * self.model.positions_per_subpixel * distance
    counts_V = count_codes(codes_Bhw, self.model.vocab)
    metrics = {"loss": loss, "nll": nll, "distance": distance, "codebook_perplexity": perplexity(counts_V)}
    return loss, metrics | {"codebook_usage": jnp.mean(counts_V > 0)}

  def moved(self, before: PyTree, params: PyTree, batch: dict[str, Array], key: PRNGKeyArray) -> PyTree:
    """The parameters after an update, with the codebook that the batch, seen by those before it, moves on."""
    z_BhwC = self._apply(before, dvae.map_pixels(batch["image"]), method="encode")
    codes_Bhw = self._apply(before, z_BhwC, method="nearest")
    z_PC, old = z_BhwC.reshape(-1, z_BhwC.shape[-1]), before["codebook"]
    vectors_VC, counts_V = vq.averaged(old["vectors"], old["counts"], z_PC, codes_Bhw.reshape(-1), self.decay)
    if self.revive:
      dead_V = counts_V < self.revive
      chosen_V = jax.random.randint(key, dead_V.shape, 0, len(z_PC))
      vectors_VC = jnp.where(dead_V[:, None], z_PC[chosen_V], vectors_VC)
      counts_V = jnp.where(dead_V, jnp.maximum(self.revive, 1.0), counts_V)
    return {**params, "codebook": {"vectors": vectors_VC, "counts": counts_V}}

  def _nll(self, x_BHWC: Array, stats_BHWS: Array, key: PRNGKeyArray) -> Scalar:
    return mean_nll(self.likelihood, x_BHWC, stats_BHWS, jax.random.fold_in(key, 1) if self.spread_levels else None)

  def evaluate(
    self, params: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[dict[str, Scalar], Int[Array, " V"]]:
    """What the codes reconstruct, and their counts.

    `elbo_hard` is the bound of a posterior that is sure of its code: its KL to the uniform one is ln V a position.
    """
    x_BHWC = dvae.map_pixels(batch["image"])
    codes_Bhw = self._apply(params, x_BHWC, method="codes")
    stats_BHWS = self._apply(params, codes_Bhw, method="decode_codes")
    nll, kl = self._nll(x_BHWC, stats_BHWS, key), jnp.log(jnp.float32(self.model.vocab))
    metrics = {
      "kl": kl,
      "nll": nll,
      "elbo_hard": -nll - self.model.positions_per_subpixel * kl,
      "outside": jnp.mean(self.likelihood.outside(stats_BHWS)),
      "psnr": dvae.psnr(dvae.unmap_pixels(x_BHWC), dvae.reconstruct(stats_BHWS)),
    }
    return metrics, count_codes(codes_Bhw, self.model.vocab)
