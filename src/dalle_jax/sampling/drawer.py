"""From captions to pictures: draw codes, decode them through the dVAE or VQGAN, score the pixels, a batch at a time.

C captions, S samples of each in one batch, N samples of a caption in all, T text positions, P image tokens, H W pixels.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, PyTree, UInt8

from dalle_jax.models import clip as clip_lib
from dalle_jax.models import image_tokenizer, transformer
from dalle_jax.sampling import rerank
from dalle_jax.sampling.choose import SamplingConfig, seeded
from dalle_jax.sampling.devices import Devices, even_part
from dalle_jax.sampling.generate import generate
from dalle_jax.sampling.rankers import Candidates, ClipCosine, OwnLikelihood, OwnProbability, Ranker, Weighted, mix
from dalle_jax.sharding import Rules


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
  """The samples of one caption. Codes and scores are in the order of the samples; pictures are of the kept ones only.

  scores_N: what they are ranked by, of the numbers that each ranker gave, which are `by_ranker`; None without a ranker.
  kept_K: numbers of the kept samples, the best score first (without a ranker in the order they were drawn).
  """

  caption: int
  codes_NP: Int[np.ndarray, "N P"]
  scores_N: Float[np.ndarray, " N"] | None
  by_ranker: Mapping[str, Float[np.ndarray, " N"]]
  kept_K: Int[np.ndarray, " K"]
  images_KHWC: UInt8[np.ndarray, "K H W 3"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Drawer:
  """The three models and their weights. Without `clip` nothing is ranked unless `draw` is told by what.

  batch: pictures drawn at the same time; mesh: where the weights lie, by these rules, and rows are split over;
  weights: digests of the transformer's and the dVAE's, by stage, for what is drawn to be known by;
  judges: of what ranks and draws nothing, by ranker. published: a ranker of pictures of captions, which reads these
  itself.
  """

  transformer: transformer.Config
  transformer_params: PyTree
  dvae: image_tokenizer.Config
  dvae_params: PyTree
  clip: clip_lib.Config | None = None
  clip_params: PyTree | None = None
  batch: int = 256
  mesh: Mesh | None = None
  rules: Rules = Rules()
  weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
  judges: Mapping[str, str] = dataclasses.field(default_factory=dict)
  published: Callable[[Sequence[str]], Ranker] | None = None

  @property
  def devices(self) -> Devices:
    """Where rows go."""
    return Devices(mesh=self.mesh, rules=self.rules)

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
    rankers: Mapping[str, Weighted] | None = None,
    numbers_C: Int[np.ndarray, " C"] | None = None,
    progress: Callable[[int], object] | None = None,
  ) -> Iterator[Drawn]:
    """Draws `num` samples of each caption (token ids) and yields them caption by caption, in order.

    A sample depends on the seed, its caption's number and its own, not on `batch`. Memory holds one batch of caches and
    pictures, and of each caption the pictures of the `keep` best (None: all). given_CP: codes that are not drawn,
    negative where one is; against_CT: see `generate`; rankers: what ranks them, CLIP where there is one if None;
    numbers_C: of the captions, where these are some of more; their places in `text_CT` if None. progress: called after
    each batch with how many pictures it brought.
    """
    rankers = self.rankers() if rankers is None else rankers
    captions, samples = self._plan(text_CT.shape[0], num)
    key = seeded(seed)
    for first in range(0, text_CT.shape[0], captions):
      # A last, smaller batch would be compiled anew, so it is filled up with its last caption.
      place_C = np.minimum(np.arange(first, first + captions), text_CT.shape[0] - 1)
      number_C = place_C if numbers_C is None else numbers_C[place_C]
      wanted = min(captions, text_CT.shape[0] - first)
      codes, scores = [], {name: [] for name in rankers}
      for start in range(0, num, samples):
        sample_S, fresh = np.arange(start, start + samples), min(samples, num - start)
        given = None if given_CP is None else given_CP[place_C]
        against = None if against_CT is None else against_CT[place_C]
        codes_CSP = self._codes(text_CT[place_C], key, number_C, sample_S, sampling, given, against)
        codes.append(codes_CSP[:wanted, :fresh])
        for name, found_CS in self.scores(place_C, text_CT[place_C], codes_CSP, rankers).items():
          scores[name].append(found_CS[:wanted, :fresh])
        if progress:
          progress(wanted * fresh)
      codes_CNP = np.concatenate(codes, axis=1)
      scores_CN = {name: np.concatenate(found, axis=1) for name, found in scores.items()}
      for i in range(wanted):
        by_ranker = {name: found_CN[i] for name, found_CN in scores_CN.items()}
        yield self.ranked(first + i, codes_CNP[i], by_ranker, rankers, num if keep is None else keep)

  def rankers(self) -> dict[str, Weighted]:
    """What ranks where nothing else is asked for: CLIP, where there is one."""
    if self.clip is None:
      return {}
    return {"clip": Weighted(ranker=ClipCosine(model=self.clip, params=self.clip_params, devices=self.devices))}

  def own(self) -> dict[str, Ranker]:
    """The rankers that ask the transformer itself."""
    of = {"model": self.transformer, "params": self.transformer_params, "devices": self.devices}
    return {"likelihood": OwnLikelihood(**of), "probability": OwnProbability(**of)}

  def scores(
    self,
    caption_C: Int[np.ndarray, " C"],
    text_CT: Int[np.ndarray, "C T"],
    codes_CSP: Int[np.ndarray, "C S P"],
    rankers: Mapping[str, Weighted],
  ) -> dict[str, Float[np.ndarray, "C S"]]:
    """What each ranker says of the samples, whose pictures are decoded for that and let go of."""
    if not rankers:
      return {}
    images_RHWC = self.decode(codes_CSP.reshape(-1, codes_CSP.shape[-1]))
    images_CSHWC = images_RHWC.reshape(*codes_CSP.shape[:2], *images_RHWC.shape[1:])
    candidates = Candidates(caption_C, text_CT, codes_CSP, images_CSHWC)
    return {name: weighted.ranker(candidates) for name, weighted in rankers.items()}

  def ranked(
    self,
    caption: int,
    codes_NP: Int[np.ndarray, "N P"],
    by_ranker: Mapping[str, Float[np.ndarray, " N"]],
    rankers: Mapping[str, Weighted],
    keep: int,
  ) -> Drawn:
    """A caption's samples with the pictures of the `keep` best, by what the rankers said whose weight is not 0."""
    weights = {name: weighted.weight for name, weighted in rankers.items() if weighted.weight}
    scores_N = mix(by_ranker, weights) if weights else None
    kept_K = np.arange(min(keep, len(codes_NP))) if scores_N is None else rerank.best(scores_N, keep)
    return Drawn(
      caption=caption,
      codes_NP=codes_NP,
      scores_N=scores_N,
      by_ranker=by_ranker,
      kept_K=kept_K,
      images_KHWC=self._decode_in_batches(codes_NP[kept_K]),
    )

  def decode(self, codes_NP: Int[np.ndarray, "N P"]) -> UInt8[np.ndarray, "N H W 3"]:
    """The pictures of codes in raster order."""
    codes_Nhw = self.devices.put(codes_NP.reshape(-1, self.dvae.grid, self.dvae.grid))
    return np.asarray(image_tokenizer.decode_images(self.dvae_params, self.dvae, codes_Nhw))

  def encode(self, images_NHWC: UInt8[np.ndarray, "N H W 3"]) -> Int[np.ndarray, "N h w"]:
    """The codes of pictures as large as the dVAE's, or of their upper parts."""
    return np.asarray(image_tokenizer.encode_images(self.dvae_params, self.dvae, self.devices.put(images_NHWC)))

  def _decode_in_batches(self, codes_KP: Int[np.ndarray, "K P"]) -> UInt8[np.ndarray, "K H W 3"]:
    parts = [self.decode(codes_KP[i : i + self.batch]) for i in range(0, len(codes_KP), self.batch)]
    return np.concatenate(parts)

  def _plan(self, captions: int, num: int) -> tuple[int, int]:
    """Captions, and samples of each, in a batch: as even as can be, and no more than `batch` pictures."""
    samples = even_part(num, self.batch)
    beside = even_part(captions, max(1, self.batch // samples)) if samples == num else 1
    return self.devices.filled(beside, samples)

  def _codes(
    self,
    text_CT: Int[np.ndarray, "C T"],
    key: jax.Array,
    caption_C: Int[np.ndarray, " C"],
    sample_S: Int[np.ndarray, " S"],
    sampling: SamplingConfig,
    given_CP: Int[np.ndarray, "C P"] | None,
    against_CT: Int[np.ndarray, "C T"] | None,
  ) -> Int[np.ndarray, "C S P"]:
    return np.asarray(
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
        mesh=self.mesh,
        rules=self.rules,
      )
    )
