"""A dVAE, or a VQGAN, on held-out pictures, one by one: likelihood, bounds, error, structural similarity, codes.

B pictures of a batch, H W pixels, h w code grid, V codebook.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree, UInt8

from dalle_jax.evaluation.metrics.figures import Figure, of_mean
from dalle_jax.evaluation.metrics.ssim import ssim
from dalle_jax.evaluation.reconstruction import perplexity, psnr
from dalle_jax.models import dvae, image_tokenizer
from dalle_jax.models.likelihoods import Likelihood, LogitLaplace
from dalle_jax.sampling.devices import Devices, scope
from dalle_jax.sharding import Rules

PUBLISHED = LogitLaplace()
BOUNDS = ("nll", "elb_hard", "elb_relaxed", "kl")


def measure(
  params: PyTree,
  cfg: image_tokenizer.Config,
  images_BHWC: UInt8[np.ndarray, "B H W 3"],
  numbers_B: Int[np.ndarray, " B"],
  *,
  seed: int,
  temperature: float | None,
  likelihood: Likelihood = PUBLISHED,
  spread_levels: bool = False,
  similarity: bool = True,
  devices: Devices = Devices(),
) -> tuple[dict[str, np.ndarray], UInt8[np.ndarray, "B H W 3"]]:
  """The columns of each picture, and what its most likely codes decode to.

  squared_error: mean over sub-pixels in [0, 1] of the 8-bit reconstruction; codes; ssim unless `similarity` is False,
  which wants 11 pixels a side; and where a temperature is given, in nats: kl of all positions, nll, elb_hard,
  elb_relaxed of a sub-pixel, under the likelihood of pixels as they are or spread over their levels. Hard codes are
  drawn and relaxed ones made with the same Gumbel noise, which depends on the seed and the picture's number alone.
  """
  placed, numbers = devices.put(images_BHWC), devices.put(numbers_B.astype(np.uint32))
  decoded_BHWC, codes_Bhw = _reconstruct(params, placed, cfg, devices.mesh, devices.rules_for(len(images_BHWC)))
  decoded = np.asarray(decoded_BHWC)
  columns = {
    "squared_error": np.square(images_BHWC / 255 - decoded / 255).mean(axis=(1, 2, 3)),
    "codes": np.asarray(codes_Bhw).astype(np.uint16 if cfg.vocab <= 2**16 else np.int32),
  }
  if similarity:
    columns["ssim"] = np.asarray(ssim(jnp.asarray(images_BHWC), jnp.asarray(decoded)))
  if temperature is not None:
    how = (cfg, likelihood, spread_levels, devices.mesh, devices.rules_for(len(images_BHWC)))
    bounds = _bounds(params, placed, numbers, jax.random.key(seed), jnp.float32(temperature), *how)
    columns |= {name: np.asarray(values_B) for name, values_B in bounds.items()}
  return columns, decoded


@functools.partial(jax.jit, static_argnames=("cfg", "mesh", "rules"))
def _reconstruct(
  params: PyTree, images_BHWC: UInt8[Array, "B H W 3"], cfg: image_tokenizer.Config, mesh: Mesh | None, rules: Rules
) -> tuple[UInt8[Array, "B H W 3"], Int[Array, "B h w"]]:
  with scope(mesh, rules):
    codes_Bhw = image_tokenizer.encode_images(params, cfg, images_BHWC)
    return image_tokenizer.decode_images(params, cfg, codes_Bhw), codes_Bhw


@functools.partial(jax.jit, static_argnames=("cfg", "likelihood", "spread_levels", "mesh", "rules"))
def _bounds(
  params: PyTree,
  images_BHWC: UInt8[Array, "B H W 3"],
  numbers_B: Array,
  key: Array,
  temperature: Array,
  cfg: dvae.Config,
  likelihood: Likelihood,
  spread_levels: bool,
  mesh: Mesh | None,
  rules: Rules,
) -> dict[str, Float[Array, " B"]]:
  """Evidence lower bounds at beta = 1 by relaxed codes and by hard ones, which alone are a bound (paper 2, A.2)."""

  def nll(method: str, z: Array) -> Array:
    stats_BHWS = dvae.Dvae(cfg).apply({"params": params}, z, method=method)
    return jnp.mean(likelihood.nll(targets_BHWC, stats_BHWS), axis=(1, 2, 3))

  with scope(mesh, rules):
    x_BHWC = dvae.map_pixels(images_BHWC)
    logits_BhwV = dvae.Dvae(cfg).apply({"params": params}, x_BHWC, method="encode")
    keys_B = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers_B)
    noisy_BhwV = logits_BhwV + jax.vmap(lambda own: jax.random.gumbel(own, logits_BhwV.shape[1:]))(keys_B)
    targets_BHWC = x_BHWC
    if spread_levels:
      spread = jax.vmap(lambda x_HWC, own: dvae.spread_levels(x_HWC[None], jax.random.fold_in(own, 1))[0])
      targets_BHWC = spread(x_BHWC, keys_B)
    kl_B = jnp.sum(dvae.kl_to_uniform(logits_BhwV), axis=(1, 2))
    rate_B = kl_B / (cfg.image**2 * 3)
    return {
      "kl": kl_B,
      "nll": nll("decode_codes", jnp.argmax(logits_BhwV, axis=-1)),
      "elb_hard": -nll("decode_codes", jnp.argmax(noisy_BhwV, axis=-1)) - rate_B,
      "elb_relaxed": -nll("decode", jax.nn.softmax(noisy_BhwV / temperature)) - rate_B,
    }


def figures(columns: dict[str, np.ndarray], vocab: int, wanted: Iterable[str]) -> list[Figure]:
  """The figures asked for, of nll, elb, psnr, ssim, codes, over all pictures of the columns.

  psnr is of the mean squared error over all pictures; psnr_of_each the mean of each picture's own, which others report.
  """
  wanted, found = set(wanted), []
  for name in BOUNDS:
    if name in columns and ({"elb_hard": "elb", "elb_relaxed": "elb", "kl": "elb"}.get(name, name) in wanted):
      found.append(of_mean(name, columns[name], "nats a picture" if name == "kl" else "nats a sub-pixel"))
  error_N = columns["squared_error"]
  if "psnr" in wanted:
    found.append(Figure(metric="psnr", value=psnr(float(error_N.mean())), unit="dB", examples=len(error_N)))
    found.append(of_mean("psnr_of_each", np.array([psnr(error) for error in error_N.tolist()]), "dB"))
  if "ssim" in wanted:
    found.append(of_mean("ssim", columns["ssim"], ""))
  if "codes" in wanted:
    counts_V = np.bincount(columns["codes"].ravel(), minlength=vocab)
    usage = {"codes_used": int((counts_V > 0).sum()), "code_perplexity": perplexity(counts_V)}
    found += [
      Figure(metric=name, value=value, unit=f"of {vocab}", examples=len(error_N)) for name, value in usage.items()
    ]
  return found
