"""`dalle data overlap`: near-duplicates between training and evaluation pictures, a page of them, and a list.

OUT/index.html    neighbours.tsv    pictures/      what a person looks at
OUT/exclude.json  exclude.txt                      with a threshold: what `dalle eval --exclude` reads
OUT/overlap.json  neighbours.npz                   what was compared, and all neighbours: for another threshold
"""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dalle_jax import __version__
from dalle_jax.data.prepared import Prepared
from dalle_jax.errors import UserError
from dalle_jax.evaluation import examples, exclusion, overlap, overlap_page
from dalle_jax.evaluation.exclusion import Excluded, Exclusion
from dalle_jax.evaluation.neighbours import Neighbours
from dalle_jax.evaluation.overlap import Embedding
from dalle_jax.evaluation.picture_sets import PictureSet
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.workdir import Workdir

RECORD, FOUND = "overlap.json", "neighbours.npz"
Progress = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
  """threshold: None writes no list; neighbours: of each picture; pairs: pictures shown; batch: embedded at a time."""

  threshold: float | None = None
  neighbours: int = 3
  pairs: int = 200
  batch: int = 256


def trained_on(prepared: Prepared) -> str:
  """The split of training pictures where none is named."""
  return prepared.splits[0]


def evaluated_on(prepared: Prepared) -> str:
  """The split of evaluation pictures where none is named."""
  return examples.held_out_split(prepared, None)


def embedding_of(workdir: str) -> Embedding:
  """The space of a run's own CLIP. Raises UserError where the run has none, or no weights of it yet."""
  run = Workdir.open(workdir)
  found = [(name, s) for name, s in run.experiment().stages.items() if isinstance(s.objective, ClipContrastive)]
  if not found:
    raise UserError(f"{workdir} has no CLIP stage: name a run that has one, or leave out --by to compare thumbnails")
  name, stage = found[0]
  params, digest = run.weights(name)
  return overlap.by_clip(f"{run.experiment().name}'s CLIP", params, stage.objective.model, digest)


def find(
  training: PictureSet,
  evaluation: PictureSet,
  embedding: Embedding,
  wanted: Wanted,
  *,
  out: Path,
  progress: Progress = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> tuple[Path, Exclusion | None]:
  """Looks for the neighbours (unless `out` has them from an earlier call), writes all files: the page, and the list.

  say: told in a line where neighbours of an earlier call are taken. What an earlier call wrote to `out` is replaced.
  Raises UserError where `out` holds anything else, or can't be written.
  """
  compared = _compared(training, evaluation, embedding, wanted.neighbours)
  _check(out)
  found = _earlier(out, compared)
  if found is not None:
    say(f"neighbours are those that an earlier call found: {out / FOUND}")
  else:
    found = overlap.find(
      training, evaluation, embedding, count=wanted.neighbours, batch=wanted.batch, progress=progress
    )
  listed = None if wanted.threshold is None else _list(training, evaluation, embedding, found, wanted.threshold)
  about = {"training pictures": training, "evaluation pictures": evaluation, "compared by": embedding.name} | (
    {"weights": embedding.weights} if embedding.weights else {}
  )
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
      how = {"threshold": wanted.threshold, "pairs": wanted.pairs, "about": about, "progress": progress}
      overlap_page.write(scratch, training, evaluation, found, **how)
      np.savez(scratch / FOUND, cosine_BK=found.cosine_BK, row_BK=found.row_BK)
      (scratch / RECORD).write_text(json.dumps(compared | {"dalle_jax": __version__}, indent=1) + "\n")
      if listed is not None:
        (scratch / "exclude.json").write_text(listed.as_json(), encoding="utf-8")
        (scratch / "exclude.txt").write_text(listed.as_text(), encoding="utf-8")
      scratch.chmod(0o755)
      if out.exists():
        shutil.rmtree(out)
      scratch.rename(out)
    finally:
      shutil.rmtree(scratch, ignore_errors=True)
  except OSError as error:
    raise UserError(f"cannot write to {out}: {error.strerror or error}; take another --out") from error
  return out / "index.html", listed


def as_text(found: Exclusion | None, evaluation: PictureSet) -> str:
  """What came out, for a terminal."""
  if found is None:
    return "no threshold was given, so no list was written: look at the page, and run it again with --threshold"
  count = len(found.excluded)
  return (
    f"{count:,} of {evaluation.count:,} evaluation pictures ({100 * count / evaluation.count:.1f} %) have a training "
    f"picture of cosine {found.threshold:g} or more by {found.embedding['name']}"
  )


def _list(
  training: PictureSet, evaluation: PictureSet, embedding: Embedding, found: Neighbours, threshold: float
) -> Exclusion:
  """Those whose nearest picture is near enough, the nearest first."""
  cosine_N = found.cosine_BK[:, 0]
  near = [int(number) for number in np.argsort(-cosine_N, kind="stable") if cosine_N[number] >= threshold]
  return exclusion.Exclusion(
    training=training.told(),
    evaluation=evaluation.told(),
    embedding=embedding.told(),
    threshold=threshold,
    excluded=tuple(
      Excluded(
        key=evaluation.key(number),
        cosine=round(float(cosine_N[number]), 6),
        nearest=training.key(int(found.row_BK[number, 0])),
      )
      for number in near
    ),
  )


def _compared(training: PictureSet, evaluation: PictureSet, embedding: Embedding, count: int) -> dict[str, Any]:
  """What neighbours depend on; where the pictures lie is not of it."""
  sides = {"training": training.told(), "evaluation": evaluation.told()}
  bare = {side: {k: v for k, v in told.items() if k != "place"} for side, told in sides.items()}
  return {"kind": "near-duplicates", **bare, "embedding": embedding.told(), "neighbours": count}


def _check(out: Path) -> None:
  """Raises UserError where something stands at `out` that no earlier call wrote."""
  if out.exists() and (not out.is_dir() or (any(out.iterdir()) and _record(out) is None)):
    raise UserError(f"{out} holds something already: take another --out, or remove it")


def _record(out: Path) -> Mapping[str, Any] | None:
  try:
    found = json.loads((out / RECORD).read_text())
  except (OSError, ValueError):
    return None
  return found if isinstance(found, dict) and found.get("kind") == "near-duplicates" else None


def _earlier(out: Path, compared: Mapping[str, Any]) -> Neighbours | None:
  """What an earlier call found of the same pictures in the same space."""
  record = _record(out)
  if record is None or any(record.get(name) != value for name, value in compared.items()):
    return None
  try:
    with np.load(out / FOUND) as kept:
      return Neighbours(cosine_BK=kept["cosine_BK"], row_BK=kept["row_BK"])
  except (OSError, ValueError, KeyError):
    return None
