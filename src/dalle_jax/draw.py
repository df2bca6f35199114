"""Pictures of captions that a person types: drawn, ranked, written down."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from dalle_jax import attention_maps, config, evaluate, rank
from dalle_jax.data.captions import SPELT_OUT, Tokenizer, typed_ids, unknown
from dalle_jax.data.images import CentreCrop
from dalle_jax.errors import UserError
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import draws as draws_lib
from dalle_jax.sampling import gallery, prompts, ranking
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.draws import Draws
from dalle_jax.sampling.gallery import Sample, write_gallery
from dalle_jax.sharding import MeshShape
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
  rank_by: Mapping[str, float] | None = None,
  clip: Path | None = None,
  mesh: MeshShape | None = None,
  attention: bool = False,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Path:
  """Draws `num` pictures of each caption, writes the `keep` best under `out`, and returns the page's path.

  prompt: a picture of which a part is given; strict: whether a caption that is too long is refused; against: a caption
  that guidance leads away from, the empty one if None; rank_by: weights of rankers (see `ranking.rankers`), CLIP where
  there is one if None; clip: the directory of a published one that ranks, if any; mesh: of devices that draw, one if
  None; attention: whether a sheet of attention maps is made of each picture. All codes and scores are kept in
  draws.npz, to be ranked again (`rank.again`). say: told in a line what is cut off a long caption, that its words are
  not known, that nothing ranks, that a stage is not trained to its end, or what could not be seen of the part given.
  Raises UserError for a caption without a word, where the run has no weights, the part does not lie in the picture, or
  `out` can't be written.
  """
  gallery.check_folder(out)
  words = workdir.tokenizer()
  text_CT = np.stack([typed_ids(words, caption, strict=strict, say=say) for caption in captions])
  against_CT = None if against is None else _against(words, against, len(captions), strict=strict, say=say)
  drawer = evaluate.drawer(workdir, batch, mesh, clip)
  chosen = ranking.rankers(drawer, rank_by, captions)
  given_P = None if prompt is None else prompt.codes(drawer)
  if given_P is not None and (hidden := prompts.unseen(given_P)):
    say(f"{hidden} of the {(given_P >= 0).sum()} codes given come after codes that are drawn, which do not see them")
  for line in [
    *unread(words, captions),
    *([] if chosen else unranked(keep, num)),
    *caveats(workdir),
    *untold(workdir, sampling, chosen, against),
  ]:
    say(line)
  done, total = 0, num * len(captions)
  progress("drawing", 0, total)

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("drawing", done, total)

  gallery.make_folder(out)
  given_CP = None if given_P is None else np.tile(given_P, (len(captions), 1))
  how = {"num": num, "seed": seed, "keep": keep, "sampling": sampling, "given_CP": given_CP, "against_CT": against_CT}
  drawn = list(drawer.draw(text_CT, **how, rankers=chosen, progress=tell))
  about = settings(workdir, num, sampling, seed)
  if against is not None:
    about["against"] = against
  if prompt is not None:
    about["picture"] = f"{prompt.name}: {prompt.part}"
  about["ranked by"] = ranking.told(chosen)
  codes, scores = [each.codes_NP for each in drawn], [each.by_ranker for each in drawn]
  draws = record(captions, text_CT, codes, scores, seed=seed, about=about, drawer=drawer, chosen=chosen)
  draws_lib.write(out, draws)
  samples = list(rank.samples(draws, drawn))
  sheet = _sheets(drawer, words, len(samples), progress) if attention else None
  return write_gallery(out, samples, title="Drawn from captions", about=about, attention=sheet)


def settings(workdir: Workdir, num: int, sampling: SamplingConfig, seed: int) -> dict[str, Any]:
  """What a page says of how its pictures were drawn."""
  return {
    "experiment": workdir.experiment().name,
    "experiment's hash": config.digest(workdir.experiment())[:16],
    "samples a caption": num,
    "temperature": sampling.temperature,
    "top-k": sampling.top_k or "all",
    "top-p": sampling.top_p or 1,
    "guidance": sampling.guidance,
    "seed": seed,
  }


def record(
  captions: Sequence[str],
  text_CT: Int[np.ndarray, "C T"],
  codes_C: Sequence[Int[np.ndarray, "N P"]],
  scores_C: Sequence[Mapping[str, np.ndarray]],
  *,
  seed: int,
  about: Mapping[str, Any],
  drawer: Drawer,
  chosen: Iterable[str],
) -> Draws:
  """What draws.npz keeps of captions' codes and of their scores by the rankers `chosen`."""
  return Draws(
    captions=tuple(captions),
    seed=seed,
    text_CT=text_CT,
    codes_CNP=np.stack(codes_C),
    scores={name: np.stack([scores[name] for scores in scores_C]) for name in chosen},
    weights=drawer.weights,
    about=about,
    judges={name: digest for name, digest in drawer.judges.items() if name in chosen},
  )


def _against(
  words: Tokenizer, caption: str, count: int, *, strict: bool, say: Callable[[str], object]
) -> Int[np.ndarray, "C T"]:
  """The token ids of the caption that guidance leads away from, for so many captions."""
  try:
    return np.tile(typed_ids(words, caption, strict=strict, say=say), (count, 1))
  except UserError as error:
    raise UserError(f"--against: {error}") from error


def _sheets(
  drawer: Drawer, words: Tokenizer, total: int, progress: Callable[[str, int, int], object]
) -> Callable[[Sequence[Sample]], Iterator[Image.Image]]:
  """What makes the attention maps of samples, and tells of how many they are made."""
  made = itertools.count(1)
  progress("attention maps", 0, total)
  return attention_maps.sheets(drawer, words, lambda: progress("attention maps", next(made), total))


def untold(
  workdir: Workdir, sampling: SamplingConfig, chosen: Iterable[str] = (), against: str | None = None
) -> list[str]:
  """What a person should know where a transformer that never saw an empty caption is asked what it says of one."""
  stages = {name: s for name, s in workdir.experiment().stages.items() if isinstance(s.objective, TransformerNll)}
  if all(stage.examples.drop_captions for stage in stages.values()):
    return []
  guided, names = sampling.guidance != 1 and against is None, " and ".join(stages)
  asks = {"guidance compares": guided, "the likelihood ranks by comparing": "likelihood" in chosen}
  return [
    f"{names}: drop_captions was 0 in training, so {ask} with a caption never seen"
    for ask, asked in asks.items()
    if asked
  ]


def caveats(workdir: Workdir) -> list[str]:
  """What a person should know of the stages that draw and rank."""
  stages = {name: stage for name, stage in workdir.experiment().stages.items() if not stage.frozen}
  return [
    f"stage {name} is at step {step} of {stage.steps}: its training has not ended"
    for name, stage in stages.items()
    if 0 < (step := workdir.step(name)) < stage.steps
  ]


def unread(words: Tokenizer, captions: Iterable[str]) -> list[str]:
  """What a person should know where captions are of words that the tokenizer never learnt."""
  share = f"more than {100 * SPELT_OUT:.0f} % of it to bytes and single letters"
  return [
    f"this checkpoint does not know the words of {caption[:40]!r}: its tokenizer leaves {share}"
    for caption in unknown(words, captions)
  ]


def unranked(keep: int, num: int) -> list[str]:
  """What a person should know where nothing ranks."""
  if keep == num:
    return []
  return [f"no CLIP is trained in this run: the first {keep} of {num} pictures are kept, and not the best"]
