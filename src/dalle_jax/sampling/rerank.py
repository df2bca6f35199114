"""Choosing among samples: the cosine of CLIP's picture and caption, the best k of N, and how the best grows with N.

CLIP looks at decoded pixels, never at tokens (paper 9).

C captions, N samples of each, H W pixels, T text positions, E CLIP's shared space, R rows.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped, UInt8

from dalle_jax.models import clip


@functools.partial(jax.jit, static_argnames="cfg")
def embed_captions(params: PyTree, cfg: clip.Config, text_CT: Int[Array, "C T"]) -> Float[Array, "C E"]:
  """CLIP's unit vector of each caption."""
  return clip.Clip(cfg).apply({"params": params}, text_CT, method="encode_text")


@functools.partial(jax.jit, static_argnames="cfg")
def embed_pictures(params: PyTree, cfg: clip.Config, images_RHWC: UInt8[Array, "R H W 3"]) -> Float[Array, "R E"]:
  """CLIP's unit vector of each picture."""
  pixels_RHWC = images_RHWC.astype(jnp.float32) / 255
  return clip.Clip(cfg).apply({"params": params}, pixels_RHWC, method="encode_image")


def best(scores_N: Float[np.ndarray, " N"], keep: int) -> Int[np.ndarray, " K"]:
  """The samples with the highest scores, best first; of equal scores the earlier sample comes first."""
  return np.argsort(-scores_N, kind="stable")[:keep]


def best_of(
  scores_CN: Float[np.ndarray, "C N"], values_CN: Shaped[np.ndarray, "C N"], n: int
) -> Float[np.ndarray, " C"]:
  """For each caption, the value of the best-scored of n samples: the mean over all subsets of n of its N, unbiased.

  values_CN: what is wanted of the best sample: 1 if it is right, or any number. The sample with r others below it in
  score is the best of C(r, n-1) of the C(N, n) subsets. Raises ValueError unless 1 <= n <= N.
  """
  weights_N = _weight_by_rank(scores_CN.shape[1], n)
  order_CN = np.argsort(-scores_CN, axis=1, kind="stable")
  return np.take_along_axis(values_CN.astype(np.float64), order_CN, axis=1) @ weights_N


def any_of(right_CN: Bool[np.ndarray, "C N"], n: int) -> Float[np.ndarray, " C"]:
  """For each caption, the share of all subsets of n of its N samples that hold a right one: a perfect reranker's."""
  return best_of(right_CN.astype(np.float64), right_CN, n)


def powers_of_two(most: int) -> list[int]:
  """1, 2, 4 ... and `most` itself: where the curve of the best of N is drawn."""
  return sorted({*(2**i for i in range(most.bit_length())), most})


def _weight_by_rank(total: int, n: int) -> Float[np.ndarray, " N"]:
  if not 1 <= n <= total:
    raise ValueError(f"got the best of {n}, wanted 1 to {total}: that many samples were drawn")
  subsets = math.comb(total, n)
  return np.array([math.comb(total - 1 - rank, n - 1) / subsets for rank in range(total)])
