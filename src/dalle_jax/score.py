"""How likely the run's transformer finds pictures of a person's captions: a table, heat maps, matching, and a page.

P pictures, C captions, M pairs with heat maps, T text positions, N codes of a picture.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dalle_jax.data.captions import Tokenizer, typed_ids
from dalle_jax.errors import UserError
from dalle_jax.evaluation import heat_maps, matching, score_page, scores, scoring
from dalle_jax.evaluation.matching import Matched
from dalle_jax.evaluation.pairs import Pairs
from dalle_jax.evaluation.scores import Score
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.gallery import slug
from dalle_jax.workdir import Workdir

Progress = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
  """maps: of how many pairs, the first ones, heat maps are drawn; retrieval: whether all is matched with all.

  batch: pairs at the same time; strict: refuse captions that are longer than what is read of them.
  """

  maps: int = 64
  retrieval: bool = False
  batch: int = 32
  strict: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
  """What was found of every pair, how all pictures match all captions where that was asked for, and the page."""

  scores: tuple[Score, ...]
  matched: tuple[Matched, ...]
  page: Path


def score(
  model: Drawer,
  words: Tokenizer,
  pairs: Pairs,
  wanted: Wanted,
  *,
  out: Path,
  about: dict[str, str],
  progress: Progress,
  say: Callable[[str], object],
) -> Scored:
  """Scores the pairs and writes scores.tsv, maps/, index.html and, with retrieval, retrieval.png and .tsv under `out`.

  about: what the page says of the run. All pictures and captions are read before anything is written; memory holds a
  batch of pictures, and of each picture its codes. Raises UserError where one can't be read, or `out` can't be written.
  """
  if out.exists() and not out.is_dir():
    raise UserError(f"cannot write scores to {out}: it is a file; take another --out")
  cfg = model.transformer
  if cfg.order != "text_first":
    raise UserError("this run's transformer has its image first: it knows no likelihood of pictures given captions")
  text_CT = np.stack([typed_ids(words, each, strict=wanted.strict, say=say) for each in pairs.captions])
  codes_PN = scoring.encode(model, pairs, wanted.batch, progress)
  told, maps_MN = scoring.score_pairs(
    model, pairs, text_CT, codes_PN, maps=wanted.maps, batch=wanted.batch, progress=progress
  )
  image_PC = None
  if wanted.retrieval:
    image_PC = scoring.all_with_all(model, text_CT, codes_PN, wanted.batch, progress)
  matched: tuple[Matched, ...] = ()
  if image_PC is not None:
    without = {pair[0]: score.image_no_caption for pair, score in zip(pairs.pairs, told)}
    without_P = np.array([without[p] for p in range(len(pairs.pictures))])
    matched = matching.match(image_PC, without_P, pairs.belongs())
  try:
    (out / "maps").mkdir(parents=True, exist_ok=True)
    _remove_earlier(out)
    told = _draw_maps(out, model, pairs, told, maps_MN, progress)
    (out / "scores.tsv").write_text(scores.as_tsv(told), encoding="utf-8")
    if image_PC is not None:
      heat_maps.save_matching_map(out / "retrieval.png", image_PC - without_P[:, None], pairs.belongs())
      _write_matrix(out / "retrieval.tsv", pairs, image_PC)
    page = out / "index.html"
    page.write_text(score_page.page(told, matched, about), encoding="utf-8")
  except OSError as error:
    raise UserError(f"cannot write scores to {out}: {error.strerror or error}") from error
  return Scored(scores=told, matched=matched, page=page)


def caveats(workdir: Workdir) -> list[str]:
  """What a person should know of the transformer that scores."""
  stages = {name: s for name, s in workdir.experiment().stages.items() if isinstance(s.objective, TransformerNll)}
  return [
    f"stage {name}: drop_captions was 0 in training, so likelihoods without a caption are of one that it never saw"
    for name, stage in stages.items()
    if not stage.examples.drop_captions
  ]


def _draw_maps(
  out: Path,
  model: Drawer,
  pairs: Pairs,
  told: tuple[Score, ...],
  maps_MN: Float[np.ndarray, "M N"],
  progress: Progress,
) -> tuple[Score, ...]:
  """Draws the heat maps, all on one scale, and tells the scores which they are."""
  grid, guess = model.transformer.grid, math.log(model.transformer.image_vocab)
  progress("heat maps", 0, len(maps_MN))
  drawn = []
  for i, nats_N in enumerate(maps_MN):
    file = f"maps/{i:04d}-{slug(Path(told[i].file).stem)}.png"
    image_HWC = scoring.cropped(model, pairs, pairs.pairs[i][0])
    most = float(maps_MN.max())
    heat_maps.save_code_map(out / file, image_HWC, nats_N.reshape(grid, grid), most=most, guess=guess)
    drawn.append(dataclasses.replace(told[i], map=file))
    progress("heat maps", i + 1, len(maps_MN))
  return (*drawn, *told[len(drawn) :])


def _remove_earlier(out: Path) -> None:
  """The heat maps that our own scores.tsv names, and the files of an earlier retrieval."""
  listed = out / "scores.tsv"
  lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
  if lines and lines[0].startswith("file\tcaption\t") and lines[0].endswith("\tmap"):
    for file in (line.rpartition("\t")[2] for line in lines[1:]):
      if file.startswith("maps/") and ".." not in file:
        (out / file).unlink(missing_ok=True)
    for file in ("retrieval.png", "retrieval.tsv"):
      (out / file).unlink(missing_ok=True)


def _write_matrix(file: Path, pairs: Pairs, image_PC: Float[np.ndarray, "P C"]) -> None:
  """A line for each picture and a column for each caption: ln p(picture | caption)."""
  head = ["file", *(" ".join(caption.split()) for caption in pairs.captions)]
  lines = [[name, *(f"{nats:.6g}" for nats in nats_C)] for name, nats_C in zip(pairs.pictures, image_PC)]
  file.write_text("".join("\t".join(line) + "\n" for line in [head, *lines]), encoding="utf-8")
