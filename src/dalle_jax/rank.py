"""Choosing anew among pictures that were drawn before, by what they were ranked by or by something else.

C captions, N samples of each.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from dalle_jax import evaluate
from dalle_jax.errors import UserError
from dalle_jax.sampling import draws as draws_lib
from dalle_jax.sampling.drawer import Drawer, Drawn
from dalle_jax.sampling.draws import Draws
from dalle_jax.sampling.gallery import Sample, check_folder, write_gallery
from dalle_jax.sampling.rankers import Weighted
from dalle_jax.sampling.ranking import rankers, told
from dalle_jax.sharding import MeshShape
from dalle_jax.workdir import Workdir


def again(
  workdir: Workdir,
  folder: Path,
  *,
  keep: int,
  out: Path,
  batch: int,
  asked: Mapping[str, float] | None = None,
  clip: Path | None = None,
  mesh: MeshShape | None = None,
  progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Path:
  """Ranks what `draw.draw` wrote to a folder, and writes the `keep` best of each caption under `out`: the page's path.

  Scores that are kept there are taken as they are; what another ranker says is computed, and kept from then on. clip:
  the directory of a published CLIP that ranks, if any; mesh: of devices, one if None. Raises UserError where other
  weights drew the pictures than the run has now, or `keep` is more than were drawn.
  """
  draws = draws_lib.read(folder)
  check_kept(folder, draws, keep)
  check_folder(out)
  drawer = evaluate.drawer(workdir, batch, mesh, clip)
  check_weights(workdir, folder, draws, drawer)
  chosen = rankers(drawer, asked, draws.captions)
  draws = scored(folder, draws, drawer, chosen, progress)
  drawn = list(best(draws, drawer, chosen, keep))
  about = {**draws.about, "ranked by": told(chosen)}
  return write_gallery(out, list(samples(draws, drawn)), title="Drawn from captions", about=about)


def check_kept(folder: Path, draws: Draws, keep: int) -> None:
  """Raises UserError where more are to be kept of a caption than were drawn."""
  total = draws.codes_CNP.shape[1]
  if keep > total:
    raise UserError(f"got --keep {keep}, and {folder} holds {total} samples of each caption: lower --keep")


def check_weights(workdir: Workdir, folder: Path, draws: Draws, drawer: Drawer) -> None:
  """Raises UserError where other weights drew than the run has now."""
  if changed := [stage for stage, digest in draws.weights.items() if drawer.weights.get(stage) != digest]:
    raise UserError(f"{folder} was drawn with other weights of {' and '.join(changed)} than {workdir} has: draw anew")


def scored(
  folder: Path,
  draws: Draws,
  drawer: Drawer,
  chosen: Mapping[str, Weighted],
  progress: Callable[[str, int, int], object],
) -> Draws:
  """What was drawn, with all scores of these rankers.

  Those that are missing, or that another CLIP gave, are computed, and written to the folder.
  """
  known = {name for name in draws.scores if draws.judges.get(name) == drawer.judges.get(name)}
  if missing := {name: weighted for name, weighted in chosen.items() if name not in known}:
    judges = {name: digest for name, digest in drawer.judges.items() if name in missing}
    draws = dataclasses.replace(_scored(drawer, draws, missing, progress), judges={**draws.judges, **judges})
    draws_lib.write(folder, draws)
  return draws


def best(draws: Draws, drawer: Drawer, chosen: Mapping[str, Weighted], keep: int) -> Iterator[Drawn]:
  """The `keep` best of each caption by these rankers, whose scores are there."""
  for i, codes_NP in enumerate(draws.codes_CNP):
    yield drawer.ranked(i, codes_NP, {name: draws.scores[name][i] for name in chosen}, chosen, keep)


def samples(draws: Draws, drawn: list[Drawn]) -> Iterator[Sample]:
  """The pictures kept, as the gallery takes them."""
  for each in drawn:
    for number, image_HWC in zip(each.kept_K, each.images_KHWC):
      yield Sample(
        caption=draws.captions[each.caption],
        caption_number=each.caption,
        sample=int(number),
        seed=draws.seed,
        codes_N=each.codes_NP[number],
        score=None if each.scores_N is None else float(each.scores_N[number]),
        scores={name: float(scores_N[number]) for name, scores_N in each.by_ranker.items()},
        image_HWC=image_HWC,
      )


def _scored(
  drawer: Drawer, draws: Draws, missing: Mapping[str, Weighted], progress: Callable[[str, int, int], object]
) -> Draws:
  """With the scores of rankers that are missing, computed a batch at a time."""
  captions, total, _ = draws.codes_CNP.shape
  found = {name: np.zeros((captions, total), np.float32) for name in missing}
  progress("ranking", 0, captions * total)
  for i in range(captions):
    for first in range(0, total, drawer.batch):
      part = slice(first, first + drawer.batch)
      codes_CSP = draws.codes_CNP[i : i + 1, part]
      for name, scores_CS in drawer.scores(np.array([i]), draws.text_CT[i : i + 1], codes_CSP, missing).items():
        found[name][i, part] = scores_CS[0]
      progress("ranking", i * total + min(total, first + drawer.batch), captions * total)
  return dataclasses.replace(draws, scores={**draws.scores, **found})
