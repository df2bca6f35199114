"""From captions to pictures: draw codes, decode them through the dVAE, score the pixels by CLIP, a batch at a time.

C captions, S samples of each in one batch, N samples of a caption in all, T text positions, P image tokens, H W pixels.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree, UInt8

from dalle_jax.models import clip as clip_lib
from dalle_jax.models import dvae, transformer
from dalle_jax.sampling import rerank
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.generate import generate


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
  """The samples of one caption. Codes and scores are in the order of the samples; pictures are of the kept ones only.

  kept_K: numbers of the kept samples, the best score first (without CLIP in the order they were drawn).
  """

  caption: int
  codes_NP: Int[np.ndarray, "N P"]
  scores_N: Float[np.ndarray, " N"] | None
  kept_K: Int[np.ndarray, " K"]
  images_KHWC: UInt8[np.ndarray, "K H W 3"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Drawer:
  """The three models and their weights. Without `clip` nothing is scored. batch: pictures drawn at the same time."""

  transformer: transformer.Config
  transformer_params: PyTree
  dvae: dvae.Config
  dvae_params: PyTree
  clip: clip_lib.Config | None = None
  clip_params: PyTree | None = None
  batch: int = 256

  def draw(
    self,
    text_CT: Int[np.ndarray, "C T"],
    *,
    num: int,
    seed: int,
    keep: int | None = None,
    sampling: SamplingConfig = SamplingConfig(),  # noqa: B008  it is frozen
    given_CP: Int[np.ndarray, "C P"] | None = None,
    against_CT: Int[np.ndarray, "C T"] | None = None,
    progress: Callable[[int], object] | None = None,
  ) -> Iterator[Drawn]:
    """Draws `num` samples of each caption (token ids) and yields them caption by caption, in order.

    A sample depends on the seed, its caption's place in `text_CT` and its own number, not on `batch`. Memory holds one
    batch of caches and pictures, and of each caption the pictures of the `keep` best (None: all). given_CP: codes that
    are not drawn, negative where one is; against_CT: see `generate`. progress: called
    after each batch with how many pictures it brought.
    """
    captions, samples = self._plan(text_CT.shape[0], num)
    key = jax.random.key(seed)
    for first in range(0, text_CT.shape[0], captions):
      # A last, smaller batch would be compiled anew, so it is filled up with its last caption.
      numbers_C = np.minimum(np.arange(first, first + captions), text_CT.shape[0] - 1)
      wanted = min(captions, text_CT.shape[0] - first)
      parts: list[list[Drawn]] = [[] for _ in range(wanted)]
      for start in range(0, num, samples):
        sample_S, fresh = np.arange(start, start + samples), min(samples, num - start)
        given = None if given_CP is None else given_CP[numbers_C]
        against = None if against_CT is None else against_CT[numbers_C]
        drawn = self._draw_batch(text_CT[numbers_C], key, numbers_C, sample_S, sampling, given, against)
        for i, part in enumerate(drawn[:wanted]):
          parts[i] = [_merge([*parts[i], _first(part, fresh)], num if keep is None else keep)]
        if progress:
          progress(wanted * fresh)
      yield from (each[0] for each in parts)

  def decode(self, codes_NP: Int[np.ndarray, "N P"]) -> UInt8[np.ndarray, "N H W 3"]:
    """The pictures of codes in raster order."""
    codes_Nhw = jnp.asarray(codes_NP).reshape(-1, self.dvae.grid, self.dvae.grid)
    return np.asarray(dvae.decode_images(self.dvae_params, self.dvae, codes_Nhw))

  def encode(self, images_NHWC: UInt8[np.ndarray, "N H W 3"]) -> Int[np.ndarray, "N h w"]:
    """The codes of pictures as large as the dVAE's, or of their upper parts."""
    return np.asarray(dvae.encode_images(self.dvae_params, self.dvae, jnp.asarray(images_NHWC)))

  def score(
    self, text_CT: Int[np.ndarray, "C T"], images_CSHWC: UInt8[np.ndarray, "C S H W 3"]
  ) -> Float[np.ndarray, "C S"] | None:
    """CLIP's cosine of each caption and each of its pictures; None without CLIP."""
    if self.clip is None:
      return None
    captions, samples, *shape = images_CSHWC.shape
    pictures_RE = rerank.embed_pictures(self.clip_params, self.clip, images_CSHWC.reshape(-1, *shape))
    text_CE = rerank.embed_captions(self.clip_params, self.clip, jnp.asarray(text_CT))
    return np.asarray(jnp.einsum("CSE,CE->CS", pictures_RE.reshape(captions, samples, -1), text_CE))

  def _plan(self, captions: int, num: int) -> tuple[int, int]:
    """Captions, and samples of each, in a batch: as even as can be, and no more than `batch` pictures."""
    samples = _even_part(num, self.batch)
    return _even_part(captions, max(1, self.batch // samples)) if samples == num else 1, samples

  def _draw_batch(
    self,
    text_CT: Int[np.ndarray, "C T"],
    key: jax.Array,
    caption_C: Int[np.ndarray, " C"],
    sample_S: Int[np.ndarray, " S"],
    sampling: SamplingConfig,
    given_CP: Int[np.ndarray, "C P"] | None,
    against_CT: Int[np.ndarray, "C T"] | None,
  ) -> list[Drawn]:
    codes_CSP = np.asarray(
      generate(
        self.transformer_params,
        jnp.asarray(text_CT, jnp.int32),
        key,
        jnp.asarray(caption_C, jnp.int32),
        jnp.asarray(sample_S, jnp.int32),
        model=self.transformer,
        sampling=sampling,
        given_CN=None if given_CP is None else jnp.asarray(given_CP, jnp.int32),
        against_CT=None if against_CT is None else jnp.asarray(against_CT, jnp.int32),
      )
    )
    images_RHWC = self.decode(codes_CSP.reshape(-1, codes_CSP.shape[-1]))
    images_CSHWC = images_RHWC.reshape(*codes_CSP.shape[:2], *images_RHWC.shape[1:])
    scores_CS = self.score(text_CT, images_CSHWC)
    return [
      Drawn(
        caption=int(number),
        codes_NP=codes_CSP[i],
        scores_N=None if scores_CS is None else scores_CS[i],
        kept_K=sample_S,
        images_KHWC=images_CSHWC[i],
      )
      for i, number in enumerate(caption_C)
    ]


def _even_part(total: int, most: int) -> int:
  return math.ceil(total / math.ceil(total / most))


def _first(part: Drawn, count: int) -> Drawn:
  """The first samples of a batch, whose pictures are all still there."""
  scores_N = None if part.scores_N is None else part.scores_N[:count]
  return dataclasses.replace(
    part,
    codes_NP=part.codes_NP[:count],
    scores_N=scores_N,
    kept_K=part.kept_K[:count],
    images_KHWC=part.images_KHWC[:count],
  )


def _merge(parts: list[Drawn], keep: int) -> Drawn:
  """One caption's samples of successive batches, with the pictures of the `keep` best of those still kept."""
  scores_N = None if parts[0].scores_N is None else np.concatenate([part.scores_N for part in parts])
  kept_K = np.concatenate([part.kept_K for part in parts])
  order_K = np.arange(keep) if scores_N is None else rerank.best(scores_N[kept_K], keep)
  order_K = order_K[: len(kept_K)]
  return Drawn(
    caption=parts[0].caption,
    codes_NP=np.concatenate([part.codes_NP for part in parts]),
    scores_N=scores_N,
    kept_K=kept_K[order_K],
    images_KHWC=np.concatenate([part.images_KHWC for part in parts])[order_K],
  )
