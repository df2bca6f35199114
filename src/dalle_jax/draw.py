"""Pictures of captions that a person types: drawn, ranked, written down."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from dalle_jax import attention_maps, evaluate
from dalle_jax.data.captions import Tokenizer, typed_ids
from dalle_jax.data.images import CentreCrop
from dalle_jax.errors import UserError
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import prompts
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.gallery import Sample, write_gallery
from dalle_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
  """A picture, and which part of it is given.

  The whole picture is encoded and its codes are cut, which then know of a few pixels below the cut; the paper does not
  say how its 15x32 codes came about. crop_first: the picture is cut first, for `Top` alone.
  """

  name: str
  image_HWC: UInt8[np.ndarray, "H W 3"]
  part: prompts.Part
  crop_first: bool = False

  def codes(self, drawer: Drawer) -> Int[np.ndarray, " P"]:
    """The codes given, negative where one is drawn. Raises UserError where the part does not lie in the picture."""
    model = drawer.dvae
    image_HWC = CentreCrop(size=model.image)(self.image_HWC, np.random.default_rng(0))
    whole_hw = drawer.encode(image_HWC[None])[0]
    given_P = self.part.given(whole_hw)
    if not self.crop_first:
      return given_P
    upper = self.part.rows * model.image // model.grid
    upper_hw = drawer.encode(image_HWC[None, :upper])[0]
    return self.part.given(np.concatenate([upper_hw, whole_hw[len(upper_hw) :]]))


def draw(
  workdir: Workdir,
  captions: Sequence[str],
  *,
  num: int,
  keep: int,
  sampling: SamplingConfig,
  seed: int,
  batch: int,
  out: Path,
  prompt: Prompt | None = None,
  strict: bool = False,
  against: str | None = None,
  attention: bool = False,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Path:
  """Draws `num` pictures of each caption, writes the `keep` best by CLIP under `out`, and returns the page's path.

  prompt: a picture of which a part is given; strict: whether a caption that is too long is refused; against: a caption
  that guidance leads away from, the empty one if None; attention: whether a sheet of attention maps is made of each
  picture. say: told in a line what is cut off a long caption, that nothing ranks, that a stage is not trained to its
  end, or what could not be seen of the part given. Raises UserError for a caption without a word, where the run has no
  weights, the part does not lie in the picture, or `out` can't be written.
  """
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write pictures to {out}: it is a file; take another --out")
  words = workdir.tokenizer()
  text_CT = np.stack([typed_ids(words, caption, strict=strict, say=say) for caption in captions])
  drawer = evaluate.drawer(workdir, batch)
  given_P = None if prompt is None else prompt.codes(drawer)
  if given_P is not None and (hidden := prompts.unseen(given_P)):
    say(f"{hidden} of the {(given_P >= 0).sum()} codes given come after codes that are drawn, which do not see them")
  for line in [*_caveats(workdir, keep, num), *([] if against else _unguided(workdir, sampling))]:
    say(line)
  done, total = 0, num * len(captions)
  progress("drawing", 0, total)

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("drawing", done, total)

  given_CP = None if given_P is None else np.tile(given_P, (len(captions), 1))
  against_CT = (
    None if against is None else np.tile(typed_ids(words, against, strict=strict, say=say), (len(captions), 1))
  )
  samples = [
    Sample(
      caption=captions[drawn.caption],
      caption_number=drawn.caption,
      sample=int(number),
      seed=seed,
      codes_N=drawn.codes_NP[number],
      score=None if drawn.scores_N is None else float(drawn.scores_N[number]),
      image_HWC=image_HWC,
    )
    for drawn in drawer.draw(
      text_CT, num=num, seed=seed, keep=keep, sampling=sampling, given_CP=given_CP, against_CT=against_CT, progress=tell
    )
    for number, image_HWC in zip(drawn.kept_K, drawn.images_KHWC)
  ]
  about = {
    "experiment": workdir.experiment().name,
    "samples a caption": num,
    "temperature": sampling.temperature,
    "top-k": sampling.top_k or "all",
    "top-p": sampling.top_p or 1,
    "guidance": sampling.guidance,
    "seed": seed,
  }
  if against is not None:
    about["against"] = against
  if prompt is not None:
    about["picture"] = f"{prompt.name}: {prompt.part}"
  sheet = _sheets(drawer, words, len(samples), progress) if attention else None
  return write_gallery(out, samples, title="Drawn from captions", about=about, attention=sheet)


def _sheets(
  drawer: Drawer, words: Tokenizer, total: int, progress: Callable[[str, int, int], object]
) -> Callable[[Sample], Image.Image]:
  """What makes the attention maps of a sample, and tells of how many they are made."""
  made = itertools.count(1)
  progress("attention maps", 0, total)
  return attention_maps.sheets(drawer, words, lambda: progress("attention maps", next(made), total))


def _unguided(workdir: Workdir, sampling: SamplingConfig) -> list[str]:
  """What a person should know of guidance with a transformer that never saw an empty caption."""
  stages = {name: s for name, s in workdir.experiment().stages.items() if isinstance(s.objective, TransformerNll)}
  if sampling.guidance == 1 or all(stage.examples.drop_captions for stage in stages.values()):
    return []
  return [f"{' and '.join(stages)}: drop_captions was 0 in training, so guidance compares with a caption never seen"]


def _caveats(workdir: Workdir, keep: int, num: int) -> list[str]:
  """What a person should know of the stages that draw and rank."""
  stages = {name: stage for name, stage in workdir.experiment().stages.items() if not stage.frozen}
  lines = [
    f"stage {name} is at step {step} of {stage.steps}: its training has not ended"
    for name, stage in stages.items()
    if 0 < (step := workdir.step(name)) < stage.steps
  ]
  ranks = any(
    isinstance(stage.objective, ClipContrastive) and (stage.frozen or workdir.step(name))
    for name, stage in workdir.experiment().stages.items()
  )
  if not ranks and keep < num:
    lines.append(f"no CLIP is trained in this run: the first {keep} of {num} pictures are kept, and not the best")
  return lines
