"""The blog's probes, drawn from a run's weights: suites of captions, each on a page whose caption's words are picked.

    OUT/index.html                     leads to the suites that are in OUT
    OUT/SUITE/index.html               the page (evaluation/probes/page.py)
    OUT/SUITE/samples.jsonl            a line for each picture kept: caption, words, scores, codes, and what made it
    OUT/SUITE/NNN-CAPTION/00.png ...   the best first, and sheet.png

P codes of a picture, H W pixels.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax import config, evaluate
from dalle_jax.data.captions import Tokenizer
from dalle_jax.draw import Prompt, caveats, unguided, unranked
from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes import page
from dalle_jax.evaluation.probes.catalogue import SUITES
from dalle_jax.evaluation.probes.subset import subset
from dalle_jax.evaluation.probes.suite import Caption, Suite
from dalle_jax.sampling import gallery, prompts
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer, Drawn
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir

UNKNOWN = 0.3  # share of bytes and single letters among a caption's tokens above which its words are not known


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
  mesh: MeshShape | None = None,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Path:
  """Draws `num` pictures of `limit` captions of each suite, keeps the `keep` best by CLIP, returns OUT/index.html.

  What an earlier call wrote of these suites is replaced, that of others stays. mesh: of devices that draw, one if None;
  say: told in a line what is cut off long captions, that words are not known, and what `draw.draw` says. Raises
  UserError where a suite wants a picture and none is given, its part does not lie in the picture, the run has no
  weights, or `out` can't be written.
  """
  for folder in (out, *(out / suite.name for suite in suites)):
    if folder.exists() and not folder.is_dir():
      raise UserError(f"cannot write pictures to {folder}: it is a file; take another --out")
  words, drawer = workdir.tokenizer(), evaluate.drawer(workdir, batch, mesh)
  about = {
    "experiment": workdir.experiment().name,
    "experiment's hash": config.digest(workdir.experiment())[:16],
    "samples a caption": num,
    "temperature": sampling.temperature,
    "top-k": sampling.top_k or "all",
    "top-p": sampling.top_p or 1,
    "guidance": sampling.guidance,
    "seed": seed,
  }
  plans = [_plan(suite, subset(suite, limit, seed), picture, words, drawer, about) for suite in suites]
  unread = [f"{plan.suite.name}: {line}" for plan in plans for line in plan.warnings]
  nothing_ranks = [] if drawer.rankers() else unranked(keep, num)
  for line in [*nothing_ranks, *caveats(workdir), *unguided(workdir, sampling), *unread]:
    say(line)
  try:  # before any time is spent on what then can't be kept
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot write pictures to {out}: {error.strerror or error}") from error
  done, total = 0, num * sum(len(plan.captions) for plan in plans)
  progress("drawing", 0, total)

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress("drawing", done, total)

  try:
    for plan in plans:
      text_CT = np.stack([words.ids(caption.text) for caption in plan.captions])
      given_CP = None if plan.given_P is None else np.tile(plan.given_P, (len(text_CT), 1))
      kept = drawer.draw(text_CT, num=num, seed=seed, keep=keep, sampling=sampling, given_CP=given_CP, progress=tell)
      _write(out / plan.suite.name, plan, seed, kept)
    return _overview(out, workdir.experiment().name)
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
    suite=suite, captions=captions, given_P=given_P, about=about, warnings=tuple(_warnings(captions, words))
  )


def _warnings(captions: Sequence[Caption], words: Tokenizer) -> Iterator[str]:
  """What the tokenizer makes of the captions that a person should know."""
  unknown = sum(words.spelt_out(caption.text) > UNKNOWN for caption in captions)
  if unknown:
    yield (
      f"this checkpoint does not know the words of {unknown} of {len(captions)} captions: its tokenizer leaves more "
      f"than {100 * UNKNOWN:.0f} % of each to bytes and single letters"
    )
  most = words.cfg.length - 1
  if long := sum(len(words.encode(caption.text)) > most for caption in captions):
    yield f"{long} of {len(captions)} captions have more than {most} tokens; what follows these is not read"


def _write(out: Path, plan: Planned, seed: int, drawn: Iterable[Drawn]) -> None:
  """The pictures as they come, a line for each, and at the end the page."""
  shown: list[page.Shown] = []
  fine = False
  for each in drawn:
    if not shown:
      out.mkdir(parents=True, exist_ok=True)
      gallery.remove_earlier(out)
      (out / "index.html").unlink(missing_ok=True)  # it would show pictures that are no longer there
      (out / "samples.jsonl").write_text("")
    caption = plan.captions[each.caption]
    group = [
      gallery.Sample(
        caption=caption.text,
        caption_number=each.caption,
        sample=int(number),
        seed=seed,
        codes_N=each.codes_NP[number],
        score=None if each.scores_N is None else float(each.scores_N[number]),
        scores={name: float(scores_N[number]) for name, scores_N in each.by_ranker.items()},
        image_HWC=image_HWC,
      )
      for number, image_HWC in zip(each.kept_K, each.images_KHWC)
    ]
    folder = f"{each.caption:03d}-{gallery.slug(caption.text)}"
    files = [f"{folder}/{i:02d}.png" for i in range(len(group))]
    chosen = {name: word.text for name, word in caption.chosen.items()}
    with (out / "samples.jsonl").open("a") as lines:
      for sample, file in zip(group, files):
        lines.write(json.dumps(gallery.row(sample, file, plan.about) | {"words": chosen}) + "\n")
    for sample, file in zip(group, files):
      gallery.save_picture(sample.image_HWC, out / file)
    labels = [gallery.label(sample) for sample in group]
    gallery.contact_sheet([sample.image_HWC for sample in group], labels).save(out / folder / "sheet.png")
    shown.append(page.Shown(caption=caption, pictures=tuple(zip(files, labels)), sheet=f"{folder}/sheet.png"))
    fine = group[0].image_HWC.shape[0] >= 128
  page.write(out, plan.suite, shown, about=plan.about, warnings=plan.warnings, fine=fine)


def _overview(out: Path, experiment: str) -> Path:
  """A page of all suites that are in `out`, whichever call drew them."""
  firsts = {}
  for suite in SUITES:
    if not (out / suite.name / "index.html").is_file():
      continue
    try:
      rows = [json.loads(line) for line in (out / suite.name / "samples.jsonl").read_text().splitlines()]
      firsts[suite] = (f"{suite.name}/{rows[0]['file']}", len({row["caption_number"] for row in rows}))
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):  # a page that is not ours
      continue
  return page.write_overview(out, firsts, f"Drawn by {experiment}.")
