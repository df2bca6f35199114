"""What samples can be ranked by: CLIP, what the transformer itself says, a classifier of pictures, and a mix of these.

Each is a function of a batch of samples that gives every sample a number, the higher the better. The numbers do not
depend on the batch, so they can be kept, and mixed later at no cost.

C captions, S samples of each, N samples of one caption, T text positions, P image tokens, H W pixels, R rows,
K classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree, UInt8

from dalle_jax.models import clip, transformer
from dalle_jax.sampling import likelihood, rerank
from dalle_jax.sampling.devices import Devices

LIKELIHOOD_ROWS = 16  # whole streams that are in a device's memory at the same time


class Candidates(NamedTuple):
  """Samples of some captions, with the captions' token ids as the transformer reads them, and their numbers."""

  caption_C: Int[np.ndarray, " C"]
  text_CT: Int[np.ndarray, "C T"]
  codes_CSP: Int[np.ndarray, "C S P"]
  images_CSHWC: UInt8[np.ndarray, "C S H W 3"]


@runtime_checkable
class Ranker(Protocol):
  """Gives every sample a number, the higher the better."""

  def __call__(self, candidates: Candidates) -> Float[np.ndarray, "C S"]: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClipCosine:
  """The cosine of CLIP's vectors of caption and decoded picture (paper 2.6, 9)."""

  model: clip.Config
  params: PyTree
  devices: Devices = Devices()

  def __call__(self, candidates: Candidates) -> Float[np.ndarray, "C S"]:
    captions, samples, *shape = candidates.images_CSHWC.shape
    images_RHWC = self.devices.put(candidates.images_CSHWC.reshape(-1, *shape))
    pictures_RE = rerank.embed_pictures(self.params, self.model, images_RHWC)
    text_CE = rerank.embed_captions(self.params, self.model, jnp.asarray(candidates.text_CT))
    pictures_CSE = pictures_RE.reshape(captions, samples, -1)
    return np.asarray(jnp.einsum("ce,cse->cs", text_CE, pictures_CSE), np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OwnProbability:
  """How probable the transformer finds the picture, given the caption: ln p(picture | caption), in nats.

  The best of many by CLIP are pictures that CLIP is mistaken in; these are improbable ones, so a mix holds it back from
  them.
  """

  model: transformer.Config
  params: PyTree
  devices: Devices = Devices()

  def __call__(self, candidates: Candidates) -> Float[np.ndarray, "C S"]:
    captions, samples, total = candidates.codes_CSP.shape
    text_RT = np.repeat(candidates.text_CT, samples, axis=0).astype(np.int32)
    return self._nats(text_RT, candidates.codes_CSP.reshape(-1, total).astype(np.int32)).reshape(captions, samples)

  def _nats(self, text_RT: Int[np.ndarray, "R T"], codes_RP: Int[np.ndarray, "R P"]) -> Float[np.ndarray, " R"]:
    at_once, how = LIKELIHOOD_ROWS * self.devices.parts, {"mesh": self.devices.mesh, "rules": self.devices.rules}
    found = []
    for first in range(0, len(codes_RP), at_once):
      # A last, smaller part would be compiled anew, so it is filled up with its last row.
      rows = np.minimum(np.arange(first, first + at_once), len(codes_RP) - 1)
      text_BT, codes_BN = (self.devices.put(each[rows]) for each in (text_RT, codes_RP))
      nats_B = likelihood.image_given_caption(self.params, text_BT, codes_BN, model=self.model, **how)
      found.append(np.asarray(nats_B))
    return np.concatenate(found)[: len(codes_RP)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OwnLikelihood(OwnProbability):
  """How much likelier the transformer finds a picture with its caption than without, in nats: no second model.

  ln p(picture | caption) - ln p(picture | no caption) ranks a caption's pictures as ln p(caption | picture) does.
  CogView ranks by that of a model trained for it; here Bayes' rule gives it, as well as the transformer knows pictures
  without captions (training drops some: `examples.drop_captions`).
  """

  def __call__(self, candidates: Candidates) -> Float[np.ndarray, "C S"]:
    no_caption_CT = np.asarray(likelihood.no_caption(self.model, len(candidates.text_CT)))
    return super().__call__(candidates) - super().__call__(candidates._replace(text_CT=no_caption_CT))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Classified:
  """A classifier's log-probability of the class that a caption asks for (VQ-VAE-2's rejection sampling).

  classify: of pictures [R, H, W, 3], uint8, their scores [R, K] before the softmax; wanted: class of caption number.
  """

  classify: Callable[[UInt8[np.ndarray, "R H W 3"]], Float[np.ndarray, "R K"]]
  wanted: Callable[[int], int]

  def __call__(self, candidates: Candidates) -> Float[np.ndarray, "C S"]:
    captions, samples, *shape = candidates.images_CSHWC.shape
    logits_RK = np.asarray(self.classify(candidates.images_CSHWC.reshape(-1, *shape)), np.float64)
    nats_RK = logits_RK - np.logaddexp.reduce(logits_RK, axis=1, keepdims=True)
    class_R = np.repeat([self.wanted(int(number)) for number in candidates.caption_C], samples)
    return nats_RK[np.arange(len(nats_RK)), class_R].reshape(captions, samples).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Weighted:
  """A ranker and its weight in a mix."""

  ranker: Ranker
  weight: float = 1.0


def mix(scores: Mapping[str, Float[np.ndarray, " N"]], weights: Mapping[str, float]) -> Float[np.ndarray, " N"]:
  """One number for each of a caption's N samples, from those of several rankers.

  Of one ranker it is the ranker's own. Several have units of their own, so each is first counted in standard deviations
  from the mean of the caption's samples, and then the weighted sum is taken.
  """
  if len(weights) == 1:
    [(name, weight)] = weights.items()
    return (scores[name] * np.float32(weight)).astype(np.float32)
  return functools.reduce(np.add, (np.float32(w) * _standard(scores[name]) for name, w in weights.items()))


def _standard(scores_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
  spread = float(scores_N.std())
  return ((scores_N - scores_N.mean()) / (spread or 1.0)).astype(np.float32)
