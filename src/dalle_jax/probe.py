"""The blog's probes, drawn from a run's weights: suites of captions, each on a page whose caption's words are picked.

    OUT/index.html      leads to the suites that are in OUT
    OUT/SUITE/          the suite's pictures, draws.npz, and its page (evaluation/probes/folder.py)

P codes of a picture, H W pixels.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax import draw, evaluate
from dalle_jax.data.captions import SPELT_OUT, Tokenizer, unknown
from dalle_jax.draw import Prompt
from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes import folder
from dalle_jax.evaluation.probes.subset import subset
from dalle_jax.evaluation.probes.suite import Caption, Suite
from dalle_jax.sampling import draws as draws_lib
from dalle_jax.sampling import gallery, prompts, ranking
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer, Drawn
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
  """What the suites that want one are given a part of. rows: of its codes, as many as each suite says if None."""

  name: str
  image_HWC: UInt8[np.ndarray, "H W 3"]
  rows: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
  """A suite with the captions that are drawn of it, what is given of a picture, and what its reader should know."""

  suite: Suite
  captions: tuple[Caption, ...]
  given_P: Int[np.ndarray, " P"] | None
  about: dict[str, Any]
  warnings: tuple[str, ...]


def probe(
  workdir: Workdir,
  suites: Sequence[Suite],
  *,
  num: int,
  keep: int,
  limit: int,
  sampling: SamplingConfig,
  seed: int,
  batch: int,
  out: Path,
  picture: Picture | None = None,
  rank_by: Mapping[str, float] | None = None,
  clip: Path | None = None,
  mesh: MeshShape | None = None,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Path:
  """Draws `num` pictures of `limit` captions of each suite, keeps the `keep` best, returns OUT/index.html.

  What an earlier call wrote of these suites is replaced, that of others stays. rank_by: weights of rankers (see
  `ranking.rankers`), CLIP where there is one if None; clip: the directory of a published one that ranks, if any; all
  codes and scores are kept in each suite's draws.npz. mesh: of devices that draw, one if None; say: told in a line what
  is cut off long captions, that words are not known, and what `draw.draw` says. Raises UserError where a suite wants a
  picture and none is given, its part does not lie in the picture, the run has no weights, or `out` can't be written.
  """
  check_folders(out, suites)
  words, drawer = workdir.tokenizer(), evaluate.drawer(workdir, batch, mesh, clip)
  chosen = ranking.rankers(drawer, rank_by)
  about = draw.settings(workdir, num, sampling, seed) | {"ranked by": ranking.told(chosen)}
  plans = [_plan(suite, subset(suite, limit, seed), picture, words, drawer, about) for suite in suites]
  unread = [f"{plan.suite.name}: {line}" for plan in plans for line in plan.warnings]
  nothing_ranks = [] if chosen else draw.unranked(keep, num)
  for line in [*nothing_ranks, *draw.caveats(workdir), *draw.untold(workdir, sampling, chosen), *unread]:
    say(line)
  gallery.make_folder(out)
  done, total = 0, num * sum(len(plan.captions) for plan in plans)
  progress("drawing", 0, total)

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("drawing", done, total)

  try:
    for plan in plans:
      texts = [caption.text for caption in plan.captions]
      text_CT, chosen = np.stack([words.ids(text) for text in texts]), ranking.rankers(drawer, rank_by, texts)
      given_CP = None if plan.given_P is None else np.tile(plan.given_P, (len(text_CT), 1))
      how = {"num": num, "seed": seed, "keep": keep, "sampling": sampling, "given_CP": given_CP, "rankers": chosen}
      _write(out / plan.suite.name, plan, seed, text_CT, drawer.draw(text_CT, **how, progress=tell), drawer, chosen)
    return folder.write_overview(out, workdir.experiment().name)
  except OSError as error:
    raise UserError(f"cannot write pictures to {out}: {error.strerror or error}") from error


def _plan(
  suite: Suite,
  captions: tuple[Caption, ...],
  picture: Picture | None,
  words: Tokenizer,
  drawer: Drawer,
  about: dict[str, Any],
) -> Planned:
  given_P = None
  if suite.image_prompt:
    if picture is None:
      raise UserError(f"the suite {suite.name} goes on from a picture: give one that shows {suite.image_prompt.shows}")
    rows = suite.image_prompt.rows_of(drawer.dvae.grid) if picture.rows is None else picture.rows
    image_HWC = prompts.two_panels(picture.image_HWC) if suite.image_prompt.two_panels else picture.image_HWC
    prompt = Prompt(name=picture.name, image_HWC=image_HWC, part=prompts.Top(rows=rows))
    given_P = prompt.codes(drawer)
    about = about | {"picture": f"{prompt.name}: {prompt.part}"}
  return Planned(
    suite=suite, captions=captions, given_P=given_P, about=about, warnings=tuple(warnings(captions, words))
  )


def warnings(captions: Sequence[Caption], words: Tokenizer) -> Iterator[str]:
  """What the tokenizer makes of the captions that a person should know."""
  if strange := unknown(words, (caption.text for caption in captions)):
    yield (
      f"this checkpoint does not know the words of {len(strange)} of {len(captions)} captions: its tokenizer leaves "
      f"more than {100 * SPELT_OUT:.0f} % of each to bytes and single letters"
    )
  most = words.cfg.length - 1
  if long := sum(len(words.encode(caption.text)) > most for caption in captions):
    yield f"{long} of {len(captions)} captions have more than {most} tokens; what follows these is not read"


def _write(
  out: Path,
  plan: Planned,
  seed: int,
  text_CT: Int[np.ndarray, "C T"],
  drawn: Iterator[Drawn],
  drawer: Drawer,
  chosen: Iterable[str],
) -> None:
  """The suite's folder, and at its end draws.npz; that of an earlier call goes with its pictures."""
  codes, scores = [], []

  def noted() -> Iterator[Drawn]:
    for each in drawn:
      if not codes:
        (out / draws_lib.NAME).unlink(missing_ok=True)
      codes.append(each.codes_NP)
      scores.append(each.by_ranker)
      yield each

  folder.write(out, plan.suite, plan.captions, noted(), seed=seed, about=plan.about, warnings=plan.warnings)
  captions = [caption.text for caption in plan.captions]
  how = {"seed": seed, "about": plan.about, "drawer": drawer, "chosen": chosen}
  draws_lib.write(out, draw.record(captions, text_CT, codes, scores, **how))


def check_folders(out: Path, suites: Sequence[Suite]) -> None:
  """Raises UserError where a file stands in place of a folder."""
  for place in (out, *(out / suite.name for suite in suites)):
    gallery.check_folder(place)
