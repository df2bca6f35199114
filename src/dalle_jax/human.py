"""`dalle human make` and `dalle human score`: two sources of pictures of the same captions, compared by people."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dalle_jax import evaluate, places
from dalle_jax.data import prompts
from dalle_jax.data.captions import typed_ids
from dalle_jax.data.scratch import publish, scratch_for
from dalle_jax.errors import UserError
from dalle_jax.evaluation import human_page, human_score, human_sheet
from dalle_jax.evaluation.pairs import pictures_in
from dalle_jax.sampling.prompts import read_picture
from dalle_jax.workdir import Workdir

SCORES = "scores"
Progress = Callable[[str, int, int], object]
Picture = UInt8[np.ndarray, "H W 3"]


def make(
  sources: tuple[str, str],
  captions_file: str,
  *,
  out: Path,
  limit: int | None = None,
  workers: int = 5,
  num: int = 32,
  seed: int = 0,
  batch: int = 256,
  progress: Progress = lambda what, done, total: None,
  say: Callable[[str], object] = lambda line: None,
) -> Path:
  """Writes the forms, the pictures and the key to `out`, which must be new; returns the folder of the forms.

  sources: each a workdir, of which the best of `num` pictures of a caption is drawn; what `dalle sample` wrote; or a
  folder with a picture a caption, in the order of names. Raises UserError where one has not a picture of each caption.
  """
  human_sheet.check_names(sources)
  asked = [each.text for each in prompts.read(captions_file)]
  repeated = next((text for i, text in enumerate(asked) if text in asked[:i]), None)
  if repeated is not None:
    raise UserError(f"{captions_file} has the caption {repeated[:60]!r} twice, wanted each once")
  with scratch_for(out) as scratch:
    how = {"limit": limit, "num": num, "seed": seed, "batch": batch, "progress": progress, "say": say}
    found = [_pictures(source, asked, **how) for source in sources]
    human_sheet.write(scratch, asked[:limit], found, names=sources, workers=workers, seed=seed)
    publish(scratch, out)
  return out / human_sheet.FORM


def score(directory: str, files: Sequence[str], without: Sequence[int] = ()) -> tuple[str, Path]:
  """Reads what people saved, writes DIR/scores with a page, plots and human.json; the table and the page's path.

  without: forms that are left out. Raises UserError where the files are not of this sheet, or nobody is left.
  """
  key = human_score.read_key(directory)
  people = human_score.read_answers(key, files)
  if unknown := sorted(set(without) - {each.worker for each in people}):
    raise UserError(f"got --without {unknown[0]}, and no file is of form {unknown[0]}: leave it out")
  people = [each for each in people if each.worker not in without]
  if not people:
    raise UserError("got --without for every form there is an answer of: leave one of them in")
  results, told = human_score.score(key, people), human_score.workers(people)
  out = Path(directory) / SCORES
  try:
    page = human_page.write(out, key, results, told, without)
    report = json.dumps(human_score.to_json(key, results, told, without), indent=1) + "\n"
    places.write(out / "human.json", report.encode())
  except OSError as error:
    raise UserError(f"cannot write to {out}: {error.strerror or error}") from error
  return human_score.as_text(key, results, told), page


def _pictures(
  source: str,
  captions: Sequence[str],
  *,
  limit: int | None,
  num: int,
  seed: int,
  batch: int,
  progress: Progress,
  say: Callable[[str], object],
) -> list[Picture]:
  """A picture of each of the first `limit` captions."""
  place = places.at(source)
  if (place / "experiment.json").exists():
    return _drawn(source, captions[:limit], num, seed, batch, progress, say)
  if (place / "samples.jsonl").exists():
    return _sampled(Path(source), captions[:limit])
  folder, names = pictures_in(Path(source))
  if len(names) != len(captions):
    raise UserError(
      f"got {len(names)} pictures in {source} for {len(captions)} captions, wanted one for each, in order"
    )
  return [read_picture(str(folder / name)) for name in names[:limit]]


def _drawn(
  source: str,
  captions: Sequence[str],
  num: int,
  seed: int,
  batch: int,
  progress: Progress,
  say: Callable[[str], object],
) -> list[Picture]:
  workdir = Workdir.open(source)
  words, drawer = workdir.tokenizer(), evaluate.drawer(workdir, batch)
  if not drawer.rankers() and num > 1:
    say(f"{source} has no CLIP that ranks: the first sample of each caption is taken")
    num = 1
  text_CT = np.stack([typed_ids(words, each, strict=False, say=say) for each in captions])
  what, done = f"drawing, {source}", 0
  progress(what, 0, num * len(captions))

  def tell(count: int) -> None:
    nonlocal done
    done += count
    progress(what, done, num * len(captions))

  return [each.images_KHWC[0] for each in drawer.draw(text_CT, num=num, seed=seed, keep=1, progress=tell)]


def _sampled(folder: Path, captions: Sequence[str]) -> list[Picture]:
  """Of what `dalle sample` wrote the first picture of each caption, which is the best."""
  try:
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    files = {" ".join(row["caption"].split()): row["file"] for row in reversed(rows)}
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"{folder}/samples.jsonl is not what `dalle sample` wrote ({str(error)[:60]})") from error
  if missing := [each for each in captions if each not in files]:
    raise UserError(f"{folder} holds no picture of {missing[0][:60]!r}: draw it with `dalle sample --captions FILE`")
  return [read_picture(str(folder / files[each])) for each in captions]
