"""What a finished run draws of held-out captions as an arm's setting says, and what is seen in it.

Settings that draw alike share one draw. The captions are the first of the held-out split, a quarter of it at most, and
the noise is the run's seed's.

C captions, S samples of each, H W pixels, E CLIP's shared space, T text positions.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from dalle_jax import evaluate
from dalle_jax.data import judge
from dalle_jax.data.prepared import Prepared, open_prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import clip_score, examples
from dalle_jax.evaluation.readings import read_groups
from dalle_jax.experiment import dvae_stage
from dalle_jax.sampling import rerank
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.workdir import Workdir

NO_CLAIMS = "pictures are judged by what their captions say, and this data has captions without claims"
NO_CLIP = "this figure looks through CLIP, and the pack's base trains none: take bases.clip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
  """How an arm draws: `samples` of each of `captions`, of which the best of n by CLIP count, and any if best_of is 1.

  repeat: how often the caption is said; reworded: whether the picture's second caption is said after it; shuffled:
  whether each picture is drawn from another one's caption; blur: of fd_clip alone, its radius in 256ths of a side.
  """

  captions: int = 150
  samples: int = 8
  best_of: int = 1
  sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
  repeat: int = 1
  reworded: bool = False
  shuffled: bool = False
  blur: float = 0.0

  def __post_init__(self) -> None:
    if min(self.captions, self.samples, self.best_of, self.repeat) < 1 or self.best_of > self.samples or self.blur < 0:
      raise UserError(
        f"got captions={self.captions}, samples={self.samples}, best_of={self.best_of}, repeat={self.repeat}, "
        f"blur={self.blur}, wanted 1 or more of each, no more best_of than samples, and no blur below 0"
      )

  def draw(self) -> "Drawing":
    """What of it decides the pixels."""
    return dataclasses.replace(self, best_of=1, blur=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
  """right_CS: whether all that the caption says is so; share_CS: of the aspects it speaks of, the share that is right;
  clip_CSE: CLIP's vectors of the pictures, clip_CE: of the captions that they are to fit; None without a CLIP."""

  images_CSHWC: UInt8[np.ndarray, "C S H W 3"]
  right_CS: Bool[np.ndarray, "C S"]
  share_CS: Float[np.ndarray, "C S"]
  clip_CSE: Float[np.ndarray, "C S E"] | None
  clip_CE: Float[np.ndarray, "C E"] | None

  def cosines(self) -> Float[np.ndarray, "C S"]:
    """Raises UserError without a CLIP."""
    if self.clip_CSE is None or self.clip_CE is None:
      raise UserError(NO_CLIP)
    return clip_score.cosines(self.clip_CSE, self.clip_CE)


@functools.lru_cache(maxsize=4)
def drawn(path: Path, step: int, seed: int, how: Drawing) -> Drawn:
  """What the run draws and what is seen in it. Raises UserError where captions come with no claims to be judged by."""
  workdir = Workdir.open(path)
  drawer, words = of_run(path, step), workdir.tokenizer()
  asked = held_out(workdir, how.captions)
  if asked.claims is None:
    raise UserError(NO_CLAIMS)
  text_CT = np.stack([words.ids(said) for said in told(workdir, asked, how)])
  if how.shuffled:
    text_CT = np.roll(text_CT, 1, axis=0)
  given = {"num": how.samples, "seed": seed, "sampling": how.sampling}
  images = [drawer.decode(each.codes_NP) for each in drawer.draw(text_CT, keep=1, rankers={}, **given)]
  readings = read_groups(images)
  verdicts = [[judge.compare(reading, claims) for reading in own] for own, claims in zip(readings, asked.claims)]
  right_CS = np.array([[each.all_right for each in own] for own in verdicts])
  share_CS = np.array([[judge.share(each, claims) for each in own] for own, claims in zip(verdicts, asked.claims)])
  clip_CSE = clip_CE = None
  if drawer.clip is not None:
    clip_CSE = np.stack([np.asarray(rerank.embed_pictures(drawer.clip_params, drawer.clip, own)) for own in images])
    clip_CE = np.asarray(rerank.embed_captions(drawer.clip_params, drawer.clip, asked.text_NT))
  pictures = {"images_CSHWC": np.stack(images), "right_CS": right_CS, "share_CS": share_CS}
  return Drawn(**pictures, clip_CSE=clip_CSE, clip_CE=clip_CE)


@functools.lru_cache(maxsize=1)
def of_run(path: Path, step: int) -> Drawer:
  """What draws with the run's weights, over the mesh that they were trained on."""
  del step
  workdir = Workdir.open(path)
  return evaluate.drawer(workdir, shape=workdir.experiment().mesh)


def side(workdir: Workdir) -> int:
  """Of the pictures, in pixels."""
  experiment = workdir.experiment()
  return experiment.stage(dvae_stage(experiment) or "").objective.model.image


def held_out(workdir: Workdir, most: int) -> examples.Examples:
  """Held-out pictures and captions: the first `most` of their split, a quarter of it at most."""
  prepared = open_prepared(workdir.experiment().data)
  split = examples.held_out_split(prepared, None)
  count = min(most, max(2, len(prepared.source(split)) // 4))
  return examples.first(prepared, split, count, size=side(workdir), words=workdir.tokenizer())


def check(prepared: Prepared) -> None:
  """Raises UserError where captions come with no claims to be judged by, as far as the first one shows."""
  if not prepared.source(examples.held_out_split(prepared, None))[0]["attributes"]:
    raise UserError(NO_CLAIMS)


def told(workdir: Workdir, asked: examples.Examples, how: Drawing) -> list[str]:
  """What the transformer is told of each picture."""
  more = [""] * len(asked.captions)
  if how.reworded:
    source = open_prepared(workdir.experiment().data).source(asked.split)
    more = [". " + source[row]["captions"][-1] for row in range(len(asked.captions))]
  return [". ".join([caption] * how.repeat) + again for caption, again in zip(asked.captions, more)]
