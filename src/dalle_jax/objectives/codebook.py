"""A start for a dVAE that has minutes, not weeks: codes that stand for clusters of the data's patches.

From random weights all positions like the same few codes, and it takes long until the others are found. Here the
pictures' patches x, one for each position, are clustered (k-means++), and least squares tells from the random encoder's
features f what the patch is, A f + a. The encoder's last convolution then becomes the log-posterior of the mixture of
Gaussians around the centres c_k, all of one variance s²:

    logit_k(f) = (c_k . (A f + a) - |c_k|² / 2) / s²

s² is such that a position is left with ENTROPY nats of doubt: the decoder then meets few wrong codes. The codebook's
vectors become a random projection of the centres, so that like patches have like vectors. An encoder that moves from
here as fast as the decoder loses the codes again, so `AdamW.slower` should slow it down, or stop it.

N pictures, H W pixels, P patches, X sub-pixels of a patch, C features, V codes, D code's dimensions.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from dalle_jax.models import dvae

MOST_PATCHES = 32_768
ROUNDS = 8
ENTROPY = 0.1


def start(params: PyTree, cfg: dvae.Config, images_NHWC: UInt8[np.ndarray, "N H W 3"], *, seed: int) -> PyTree:
  """The parameters with a codebook made of the pictures' patches; a function of them, the pictures and the seed."""
  rng = np.random.default_rng(seed)
  features_PC, patches_PX = _features(params, cfg, images_NHWC), patches(images_NHWC, cfg.grid)
  chosen_P = rng.permutation(len(features_PC))[:MOST_PATCHES]
  features_PC, patches_PX = features_PC[chosen_P], patches_PX[chosen_P]
  centres_VX = cluster(patches_PX, cfg.vocab, rng)
  with_one_PC = np.concatenate([features_PC, np.ones_like(features_PC[:, :1])], axis=1)
  map_CX = np.linalg.lstsq(with_one_PC, patches_PX, rcond=1e-4)[0]
  variance = _variance((with_one_PC @ map_CX)[:2048], centres_VX)
  kernel_CV, bias_V = map_CX[:-1] @ centres_VX.T, map_CX[-1] @ centres_VX.T - np.square(centres_VX).sum(1) / 2
  head = {"kernel": kernel_CV[None, None] / variance, "bias": bias_V / variance}
  encoder = params["encoder"] | {"output": _like(head, params["encoder"]["output"])}
  spread_VX = (centres_VX - centres_VX.mean(0)) / (centres_VX.std() + 1e-6)
  projection_XD = rng.normal(0, centres_VX.shape[1] ** -0.5, (centres_VX.shape[1], cfg.code_dim))
  codes = params["decoder"]["input"] | {"kernel": (spread_VX @ projection_XD)[None, None]}
  decoder = params["decoder"] | {"input": _like(codes, params["decoder"]["input"])}
  return params | {"encoder": encoder, "decoder": decoder}


def patches(images_NHWC: UInt8[np.ndarray, "N H W 3"], grid: int) -> Float[np.ndarray, "P X"]:
  """The patch of each position of the grid, in [0, 1], in the order of pictures, rows, columns."""
  n, side = len(images_NHWC), images_NHWC.shape[1] // grid
  cut = images_NHWC.reshape(n, grid, side, grid, side, 3).transpose(0, 1, 3, 2, 4, 5)
  return cut.reshape(n * grid * grid, -1).astype(np.float32) / 255


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
  """New numbers in the old arrays' dtype and layout; copied, since training donates them and NumPy keeps its own."""
  return jax.tree.map(lambda x, y: jax.device_put(jnp.array(x, y.dtype), y.sharding), dict(new), dict(old))
