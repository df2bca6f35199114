"""Drawing from Python: a run's models and tokenizer in one object, pictures out as arrays.

    sampler = Sampler.from_checkpoint("runs/demo")
    drawn = sampler.draw(["a red circle"], num=64, keep=8)
    drawn[0].images_KHWC                                       the best first

K kept pictures, H W pixels, N samples, P image tokens.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from dalle_jax import evaluate
from dalle_jax.data.captions import Tokenizer, typed_ids
from dalle_jax.errors import UserError
from dalle_jax.places import Place
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer, Drawn
from dalle_jax.sampling.prompts import Part
from dalle_jax.sampling.rankers import Candidates, Ranker, Weighted
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
  """drawer: the models with their weights; tokenizer: that of their training."""

  drawer: Drawer
  tokenizer: Tokenizer

  @classmethod
  def from_checkpoint(
    cls, workdir: str | Path | Place, *, batch: int = 256, mesh: MeshShape | None = None
  ) -> "Sampler":
    """Of the newest good checkpoints of a run. batch: pictures drawn at a time; mesh: of devices, one if None.

    Raises UserError where there is no such run, or its dVAE or transformer has no weights.
    """
    if batch < 1:
      raise UserError(f"got batch={batch}, wanted at least 1")
    run = Workdir.open(workdir if not isinstance(workdir, Path) else str(workdir))
    return cls(drawer=evaluate.drawer(run, batch, mesh), tokenizer=run.tokenizer())

  def draw(
    self,
    captions: Sequence[str],
    *,
    num: int = 64,
    keep: int | None = None,
    seed: int = 0,
    sampling: SamplingConfig = SamplingConfig(),  # noqa: B008  it is frozen
    picture_HWC: UInt8[np.ndarray, "H W 3"] | None = None,
    part: Part | None = None,
    against: str | None = None,
    rankers: Mapping[str, Ranker | Weighted] | None = None,
    progress: Callable[[int], object] | None = None,
  ) -> list[Drawn]:
    """Draws `num` pictures of each caption; the pictures of the `keep` best, or all, come back, the best first.

    picture_HWC: as large as the dVAE's, of which `part` is given and the rest is drawn; against: a caption that
    guidance leads away from; rankers: by any name, with weight 1 if none is said; CLIP where one is trained if None,
    none if empty; progress: told how many pictures each batch brought. Raises UserError for a caption without a word,
    one of the two of picture and part alone, a picture that is not uint8, or numbers that can't be.
    """
    if isinstance(captions, str) or not captions:
      raise UserError(f"got the captions {captions!r}, wanted a list with at least one")
    if num < 1 or not 1 <= (num if keep is None else keep) <= num:
      raise UserError(f"got num={num} and keep={keep}, wanted at least 1 of each, and to keep no more than are drawn")
    if picture_HWC is not None and picture_HWC.dtype != np.uint8:
      raise UserError(f"got a picture of {picture_HWC.dtype}, wanted uint8 from 0 to 255")
    if (picture_HWC is None) != (part is None):
      raise UserError("a picture and the part of it that is given go together: pass both, or none")
    given_CP = None
    if picture_HWC is not None and part is not None:
      given_CP = np.tile(part.given(self.encode(picture_HWC[None])[0]), (len(captions), 1))
    drawn = self.drawer.draw(
      self._ids(captions),
      num=num,
      seed=seed,
      keep=keep,
      sampling=sampling,
      given_CP=given_CP,
      against_CT=None if against is None else np.tile(self._ids([against]), (len(captions), 1)),
      rankers=None if rankers is None else {name: _weighted(each) for name, each in rankers.items()},
      progress=progress,
    )
    return list(drawn)

  def encode(self, pictures_NHWC: UInt8[np.ndarray, "N H W 3"]) -> Int[np.ndarray, "N h w"]:
    """The codes of pictures as large as the dVAE's."""
    return self.drawer.encode(pictures_NHWC)

  def decode(self, codes_NP: Int[np.ndarray, "N P"]) -> UInt8[np.ndarray, "N H W 3"]:
    """The pictures of codes in raster order."""
    return self.drawer.decode(codes_NP)

  def score(self, caption: str, codes_NP: Int[np.ndarray, "N P"], ranker: Ranker) -> Float[np.ndarray, " N"]:
    """What a ranker says of these samples of a caption."""
    images_NHWC = self.decode(codes_NP)
    return ranker(Candidates(np.zeros(1, int), self._ids([caption]), codes_NP[None], images_NHWC[None]))[0]

  def _ids(self, captions: Sequence[str]) -> Int[np.ndarray, "C T"]:
    return np.stack([typed_ids(self.tokenizer, caption, strict=False, say=lambda line: None) for caption in captions])


def _weighted(ranker: Ranker | Weighted) -> Weighted:
  return ranker if isinstance(ranker, Weighted) else Weighted(ranker=ranker)
