"""Inception's features and logits of pictures: what FID, KID and the Inception Score are made of.

B batch, H W pixels, D dimensions, K classes.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from dalle_jax.evaluation.resize import Resize
from dalle_jax.models import inception
from dalle_jax.sampling.devices import Devices

DIMS = inception.DIMS


def features(
  params: PyTree,
  images: Iterable[UInt8[np.ndarray, "_ _ 3"]],
  resize: Resize,
  dim: int = DIMS[-1],
  devices: Devices = Devices(),
) -> tuple[Float[np.ndarray, "B D"], Float[np.ndarray, "B K"] | None]:
  """The features of `dim` numbers, and the logits without the last layer's bias; None for them where dim is not 2048.

  params: FID's Inception v3, as convert/inception.py reads it, best put on the device once; images: of one size or of
  many. A batch of another length is compiled anew. Raises UserError for a dim that the network does not have.
  """
  found = _embed(params, devices.put(resize(images)), dim)
  return np.asarray(found.features_BD), None if found.logits_BK is None else np.asarray(found.logits_BK)


def stream(
  params: PyTree,
  images: Iterable[UInt8[np.ndarray, "_ _ 3"]],
  resize: Resize,
  dim: int = DIMS[-1],
  batch: int = 32,
  devices: Devices = Devices(),
) -> Iterator[tuple[Float[np.ndarray, "B D"], Float[np.ndarray, "B K"] | None]]:
  """`features` of batches of all the pictures; the last batch is filled up while it is computed, and told without."""
  params = jax.device_put(params) if devices.mesh is None else params
  pictures = iter(images)
  while some := list(itertools.islice(pictures, batch)):
    filled = [*some, *some[-1:] * (batch - len(some))]
    features_BD, logits_BK = features(params, filled, resize, dim, devices)
    yield features_BD[: len(some)], None if logits_BK is None else logits_BK[: len(some)]


@functools.partial(jax.jit, static_argnames="dim")
def _embed(params: PyTree, x_BHWC: Float[Array, "B H W 3"], dim: int) -> inception.Outputs:
  return inception.embed(params, x_BHWC, dim)
