"""A start for a dVAE that has minutes, not weeks: codes that stand for clusters of the data's patches.

From random weights all positions like the same few codes, and it takes long until the others are found. Here the random
encoder's features of real pictures are clustered (k-means++), and its last convolution becomes the log-posterior of the
mixture of Gaussians around the centres c_k, all of one variance s²:

    logit_k(x) = (c_k . x - |c_k|² / 2) / s²

s² is such that a position is left with ENTROPY nats of doubt: sharper, and no gradient would reach the encoder. And the codebook's vectors a random projection of the centres, so that like patches have like vectors. Training then
moves everything, as from any other start.

N pictures, H W pixels, P patches, C features, V codes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from dalle_jax.models import dvae

MOST_PATCHES = 32_768
ROUNDS = 8
ENTROPY = 1.0


def start(params: PyTree, cfg: dvae.Config, images_NHWC: UInt8[np.ndarray, "N H W 3"], *, seed: int) -> PyTree:
  """The parameters with a codebook made of the pictures' patches; a function of them, the pictures and the seed."""
  rng = np.random.default_rng(seed)
  features_PC = _features(params, cfg, images_NHWC)
  if len(features_PC) > MOST_PATCHES:
    features_PC = features_PC[rng.permutation(len(features_PC))[:MOST_PATCHES]]
  centres_VC = cluster(features_PC, cfg.vocab, rng)
  variance = _variance(features_PC[:2048], centres_VC)
  spread_VC = (centres_VC - centres_VC.mean(0)) / (centres_VC.std() + 1e-6)
  projection_CD = rng.normal(0, centres_VC.shape[1] ** -0.5, (centres_VC.shape[1], cfg.code_dim))
  head = {"kernel": (centres_VC / variance).T[None, None], "bias": -0.5 * np.square(centres_VC).sum(1) / variance}
  encoder = params["encoder"] | {"output": _like(head, params["encoder"]["output"])}
  codes = params["decoder"]["input"] | {"kernel": (spread_VC @ projection_CD)[None, None]}
  decoder = params["decoder"] | {"input": _like(codes, params["decoder"]["input"])}
  return params | {"encoder": encoder, "decoder": decoder}


def cluster(features_PC: Float[np.ndarray, "P C"], count: int, rng: np.random.Generator) -> Float[np.ndarray, "V C"]:
  """The centres that k-means++ and a few rounds of Lloyd's find."""
  centres_VC = np.empty((count, features_PC.shape[1]), np.float32)
  nearest_P = np.full(len(features_PC), np.inf, np.float32)
  for k in range(count):
    total = nearest_P.sum()
    at = rng.integers(len(features_PC)) if k == 0 or not total > 0 else rng.choice(len(nearest_P), p=nearest_P / total)
    centres_VC[k] = features_PC[at]
    nearest_P = np.minimum(nearest_P, np.square(features_PC - centres_VC[k]).sum(1))
  for _ in range(ROUNDS):
    which_P = _nearest(features_PC, centres_VC)
    sizes_V = np.bincount(which_P, minlength=count)
    sums_VC = np.zeros_like(centres_VC)
    np.add.at(sums_VC, which_P, features_PC)
    centres_VC = np.where(sizes_V[:, None] > 0, sums_VC / np.maximum(sizes_V, 1)[:, None], centres_VC)
  return centres_VC.astype(np.float32)


def _variance(features_PC: np.ndarray, centres_VC: np.ndarray) -> float:
  """The s² whose posterior over the centres has ENTROPY nats on average, by bisection: entropy grows with s²."""
  distance_PV = np.square(centres_VC).sum(1)[None] - 2 * features_PC @ centres_VC.T
  distance_PV -= distance_PV.min(1, keepdims=True)
  low, high = 1e-12, 1e6
  for _ in range(80):
    middle = math.sqrt(low * high)
    p_PV = np.exp(-distance_PV / (2 * middle))
    p_PV /= p_PV.sum(1, keepdims=True)
    entropy = -(p_PV * np.log(p_PV + 1e-30)).sum(1).mean()
    low, high = (middle, high) if entropy < ENTROPY else (low, middle)
  return high


def _nearest(features_PC: np.ndarray, centres_VC: np.ndarray) -> np.ndarray:
  return (np.square(centres_VC).sum(1)[None] - 2 * features_PC @ centres_VC.T).argmin(1)


def _features(params: PyTree, cfg: dvae.Config, images_NHWC: np.ndarray, size: int = 64) -> np.ndarray:
  apply = jax.jit(lambda p, x: dvae.Dvae(cfg).apply({"params": p}, dvae.map_pixels(x), method="features"))
  parts = [np.asarray(apply(params, images_NHWC[i : i + size])) for i in range(0, len(images_NHWC), size)]
  return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).astype(np.float32)


def _like(new: PyTree, old: PyTree) -> PyTree:
  """New numbers in the old arrays' dtype and layout."""
  return jax.tree.map(lambda x, y: jax.device_put(jnp.asarray(x, y.dtype), y.sharding), dict(new), dict(old))
