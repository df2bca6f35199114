"""A codebook of the data's patches, for a dVAE that has minutes, not weeks.

From random weights all positions like the same few codes, and it takes long until the others are found. Here the
pictures' patches x, one for each position, are clustered (k-means++), and least squares tells from the random encoder's
features f what the patch is, A f + a; for that its first convolution looks at one pixel at a time, and its features are
lifted above zero, where the last ReLU takes nothing away. The encoder's last convolution then becomes the log-posterior
of the mixture of Gaussians around the centres c_k, all of one variance s², that of the patches around their centres:

    logit_k(f) = (c_k . (A f + a) - |c_k|² / 2) / s²

The codebook's vectors become a random projection of the centres, so that like patches have like vectors. An encoder
that moves from here by Adam's steps loses the codes again, so `patch_dvae` leaves it as it is.

N pictures, H W pixels, P patches, X sub-pixels of a patch, C features, V codes, D code's dimensions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from dalle_jax.models import dvae

MOST_PATCHES, MOST_DISTINCT = 1 << 19, 1 << 16
ROUNDS = 8


def start(params: PyTree, cfg: dvae.Config, images_NHWC: UInt8[np.ndarray, "N H W 3"], *, seed: int) -> PyTree:
  """The parameters with a codebook made of the pictures' patches; a function of them, the pictures and the seed."""
  rng = np.random.default_rng(seed)
  patches_PX = patches(images_NHWC, cfg.grid)
  params = params | {"encoder": params["encoder"] | {"input": _middle_alone(params["encoder"]["input"])}}
  few_NHWC = images_NHWC[: -(-MOST_DISTINCT // cfg.grid**2)]
  params = _lifted(params, cfg, few_NHWC)
  features_PC = _features(params, cfg, few_NHWC)
  with_one_PC = np.concatenate([features_PC, np.ones_like(features_PC[:, :1])], axis=1)
  map_CX = np.linalg.lstsq(with_one_PC, patches_PX[: len(with_one_PC)], rcond=1e-4)[0]
  distinct_PX, counts_P = _distinct(patches_PX, rng)
  centres_VX = cluster(distinct_PX, counts_P, cfg.vocab, rng)
  errors_PX = distinct_PX - centres_VX[_nearest(distinct_PX, centres_VX)]
  variance = np.average(np.square(errors_PX).mean(1), weights=counts_P) + 1e-6
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


def cluster(
  points_PX: Float[np.ndarray, "P X"], counts_P: Float[np.ndarray, " P"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "V X"]:
  """The centres that k-means++ and a few rounds of Lloyd's find, each point there so many times."""
  centres_VX = np.empty((count, points_PX.shape[1]), np.float32)
  nearest_P = np.full(len(points_PX), np.inf, np.float32)
  for k in range(count):
    weight_P = counts_P if k == 0 else counts_P * nearest_P
    total = weight_P.sum()
    at = rng.choice(len(points_PX), p=weight_P / total) if total > 0 else rng.integers(len(points_PX))
    centres_VX[k] = points_PX[at]
    nearest_P = np.minimum(nearest_P, np.square(points_PX - centres_VX[k]).sum(1))
  for _ in range(ROUNDS):
    which_P = _nearest(points_PX, centres_VX)
    sizes_V = np.bincount(which_P, counts_P, minlength=count)
    sums_VX = np.zeros_like(centres_VX)
    np.add.at(sums_VX, which_P, points_PX * counts_P[:, None])
    centres_VX = np.where(sizes_V[:, None] > 0, sums_VX / np.maximum(sizes_V, 1)[:, None], centres_VX)
  return centres_VX.astype(np.float32)


def _distinct(patches_PX: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Different patches and how often each occurs. Drawn and flat pictures have few, photographs nothing but those."""
  chosen_P = rng.permutation(len(patches_PX))[:MOST_PATCHES]
  whole_PX, counts_P = np.unique(np.rint(patches_PX[chosen_P] * 255).astype(np.uint8), axis=0, return_counts=True)
  chosen_P = rng.permutation(len(whole_PX))[:MOST_DISTINCT]
  return whole_PX[chosen_P].astype(np.float32) / 255, counts_P[chosen_P].astype(np.float32)


def _nearest(points_PX: np.ndarray, centres_VX: np.ndarray, size: int = 4096) -> np.ndarray:
  squares_V = np.square(centres_VX).sum(1)
  parts = [points_PX[i : i + size] for i in range(0, len(points_PX), size)]
  return np.concatenate([(squares_V[None] - 2 * part @ centres_VX.T).argmin(1) for part in parts])


def _middle_alone(conv: PyTree) -> PyTree:
  """The convolution with nothing but its middle, as large as the whole was."""
  kernel_kkCD, size = np.asarray(conv["kernel"]), conv["kernel"].shape[0]
  middle_kkCD = np.zeros_like(kernel_kkCD)
  middle_kkCD[size // 2, size // 2] = size * kernel_kkCD[size // 2, size // 2]
  return conv | _like({"kernel": middle_kkCD}, {"kernel": conv["kernel"]})


def _lifted(params: PyTree, cfg: dvae.Config, images_NHWC: np.ndarray) -> PyTree:
  """The encoder with the last block's bias such that hardly a feature of these pictures is below zero."""
  lift = 4 * _features(params, cfg, images_NHWC).max()
  group, block = f"group_{cfg.groups}", f"block_{cfg.blocks}"
  conv = params["encoder"][group][block]["conv_4"]
  bias_C = np.asarray(conv["bias"]) + lift / cfg.branch_gain
  lifted = conv | _like({"bias": bias_C}, {"bias": conv["bias"]})
  blocks = params["encoder"][group] | {block: params["encoder"][group][block] | {"conv_4": lifted}}
  return params | {"encoder": params["encoder"] | {group: blocks}}


def _features(params: PyTree, cfg: dvae.Config, images_NHWC: np.ndarray, size: int = 64) -> np.ndarray:
  apply = jax.jit(lambda p, x: dvae.Dvae(cfg).apply({"params": p}, dvae.map_pixels(x), method="features"))
  parts = [np.asarray(apply(params, images_NHWC[i : i + size])) for i in range(0, len(images_NHWC), size)]
  return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).astype(np.float32)


def _like(new: PyTree, old: PyTree) -> PyTree:
  """New numbers in the old arrays' dtype and layout; copied, since training donates them and NumPy keeps its own."""
  return jax.tree.map(lambda x, y: jax.device_put(jnp.array(x, y.dtype), y.sharding), dict(new), dict(old))
