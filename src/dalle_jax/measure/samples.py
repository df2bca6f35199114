"""Figures of drawn pictures: drawn once a setting, looked at by networks and the judge, held against real ones."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax import evaluate
from dalle_jax.errors import UserError
from dalle_jax.evaluation import report
from dalle_jax.evaluation.metrics import blur, looked_at, of_pictures
from dalle_jax.evaluation.metrics.networks import Networks
from dalle_jax.evaluation.metrics.of_pictures import Seen
from dalle_jax.evaluation.metrics.parts import Parts
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.evaluation.reference import Reference
from dalle_jax.measure import seeing
from dalle_jax.measure.asked import SAMPLES, Setting
from dalle_jax.measure.run import Run, model_digest
from dalle_jax.measure.subsets import subsets
from dalle_jax.sampling import ranking
from dalle_jax.sampling.drawer import Drawer

SHOWN = 24
# Pictures without which a figure is none.
LEAST = {"fid": 2, "kid": 2, "is": 10, "fd_clip": 2, "clip_score": 2, "r_precision": 2}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
  """A few captions, and what was drawn of them with each setting."""

  captions: tuple[str, ...]
  drawn: tuple[tuple[str, UInt8[np.ndarray, "C H W 3"]], ...]


def check(run: Run, networks: Networks) -> None:
  """Raises UserError for what can't be drawn, ranked, judged or held against anything."""
  wanted, drawer = run.asked.of(SAMPLES), _drawer(run)
  run.tokenizer_digest()
  for _, setting in run.asked.settings:
    _rankers(run, drawer, setting)
  if "composition" in wanted and run.read(np.arange(1), drawer.dvae.image).claims is None:
    raise UserError(f"composition is judged where captions come with claims, and {run.prepared.name}'s have none")
  drawn, real = (min(int(keep_N.sum()) for keep_N, _, _ in subsets(run, rows_N)) for rows_N in (_rows(run), None))
  for metric in wanted:
    if min(drawn, real) < LEAST.get(metric, 1):
      raise UserError(f"{metric} wants {LEAST[metric]} pictures at least, got {min(drawn, real)}: leave it out")
  if "r_precision" in wanted:
    _check_captions(run)
  found = seeing.references(run)
  if found and (lacking := [radius for radius in run.asked.blur if radius not in found]):
    raise UserError(f"no --reference of pictures blurred by radius {lacking[0]:g}: make one, or leave --reference out")
  if "kid" in wanted and any(each.features_ND is None for each in found.values()):
    raise UserError("kid wants the features of the reference's pictures: make it with `dalle reference --keep`")
  for each in found.values():
    _check_reference(each, networks)


def _check_captions(run: Run) -> None:
  """Raises UserError where pictures that are asked for their caption have one and the same."""
  first_N = np.array([each[0] for each in run.prepared.source(run.split).captions()], object)
  for rows_N in (_rows(run), np.arange(len(run))):
    for keep_N, _, _ in subsets(run, rows_N):
      if len(set(first_N[rows_N[keep_N]])) < 2:
        raise UserError(
          "r_precision asks which caption is a picture's own, and all of these have the same: leave it out"
        )


def _check_reference(found: Reference, networks: Networks) -> None:
  """Raises UserError where the statistics were made with another network, or another resize, than are named."""
  if found.dim != networks.inception.dim:
    raise UserError(f"the --reference is of {found.dim} features, and {networks.inception.dim} are looked at")
  for name, value in networks.inception.about.items():
    theirs = (found.protocol or {}).get(name, value)  # a published file tells nothing, and the protocol says so
    if theirs != value:
      raise UserError(f"the --reference was made with {name} {theirs}, and the pictures are looked at with {value}")


def measure(run: Run, networks: Networks) -> tuple[list[Measured], Shown, int]:
  """The figures asked for, what to show, and the bytes of the parts that are kept."""
  drawer, rows_N = _drawer(run), _rows(run)
  subject = run.subject_facts(run.transformer(draws=True)[0], run.first_stage()[0])
  subject["experiment"] = subject["experiment"] | {"tokenizer": run.tokenizer_digest()}
  facts = run.data_facts(drawer.dvae.image) | {"caption": "the first"}
  real = _real(run, drawer, networks)
  found, of_real, drawn, size = [], [], [], real.bytes() if real else 0
  for number, (name, setting) in enumerate(run.asked.settings):
    own = facts | {"seed": run.asked.seed} | _setting_facts(run, drawer, setting, rows_N)
    codes = _draw(run, drawer, setting, name, own, rows_N)
    seen = _look(run, drawer, networks, codes, rows_N, name)
    size += codes.bytes() + seen.bytes()
    drawn.append((name, drawer.decode(codes.column("codes")[:SHOWN])))
    for ours, theirs in zip(subsets(run, rows_N), subsets(run), strict=True):
      own_seen = Seen(of="drawn", parts=seen, keep_N=ours[0])
      real_seen = real and Seen(of="real", parts=real, keep_N=theirs[0])
      for figure, more in _figures(run, networks, own_seen, real_seen):
        more = more | {"blur": figure.blur and blur.named()}
        if figure.of == "drawn":
          figure = ours[1](dataclasses.replace(figure, setting=name))
          found.append(Measured(figure=figure, protocol=own | subject | ours[2] | more))
        elif not number:  # real pictures are the same however others are drawn
          figure = theirs[1](figure)
          of_real.append(Measured(figure=figure, protocol=facts | subject | theirs[2] | more))
  captions = run.read(rows_N[:SHOWN], drawer.dvae.image).captions
  return found + of_real, Shown(captions=captions, drawn=tuple(drawn)), size


def _figures(run: Run, networks: Networks, drawn: Seen, real: Seen | None) -> Iterator[tuple[Any, Mapping[str, Any]]]:
  wanted = run.asked.of(SAMPLES)
  held: Mapping[float | int, Reference] = seeing.references(run)
  whole = real is not None and len(real) == len(run)
  own = {"pictures": len(real) if real else 0, "of": f"{'all of ' if whole else ''}{run.split}"}
  for radius in run.asked.blur:
    if networks.inception is not None:
      about = {"inception": networks.inception.about}
      for figure, more in of_pictures.of_inception(drawn, real, radius, wanted, held.get(radius), own):
        yield figure, about | more
    if networks.clip is not None:
      about = {"clip": networks.clip.about}
      for figure, more in of_pictures.of_clip(drawn, real, radius, wanted, own, run.asked.seed):
        yield figure, about | more
    if "composition" in wanted:
      yield from of_pictures.of_judge(drawn, real, radius)


def _rows(run: Run) -> Int[np.ndarray, " N"]:
  """The pictures whose captions are drawn, chosen by the seed."""
  order_N = np.random.default_rng(run.asked.seed).permutation(len(run))
  return np.sort(order_N[: run.asked.pictures])


def _drawer(run: Run) -> Drawer:
  """What draws, and the run's CLIP where it has one."""
  found = [run.first_stage(), run.transformer(draws=True), run.clip()]
  drawer = report.drawer(dict(each for each in found if each), run.asked.batch, run.devices)
  return evaluate.ranked_by(drawer, run.published_clip) if run.asked.ranked_by_published else drawer


def _rankers(run: Run, drawer: Drawer, setting: Setting, captions: Sequence[str] = ()) -> dict[str, Any]:
  if setting.best_of == 1:
    return {}
  found = ranking.rankers(drawer, ranking.parse(run.asked.rank) if run.asked.rank else None, captions)
  if not found:
    raise UserError(
      f"the best of {setting.best_of} has to be chosen by something, and no CLIP is trained: --rank probability, or "
      "--rank published --clip DIR"
    )
  return found


def _setting_facts(run: Run, drawer: Drawer, setting: Setting, rows_N: Int[np.ndarray, " N"]) -> dict[str, Any]:
  clip, chosen = run.clip(), _rankers(run, drawer, setting)
  ranked = {"by": {name: weighted.weight for name, weighted in chosen.items()}}
  if clip and "clip" in chosen:
    ranked |= {"clip": clip[1].digest, "model": model_digest(clip[1])}
  if ranking.PUBLISHED in chosen:
    ranked |= {ranking.PUBLISHED: run.published_clip.about()}
  return {
    "captions": {"drawn": len(rows_N), "chosen by": "seed" if len(rows_N) < len(run) else "all"},
    "sampling": dataclasses.asdict(setting.sampling),
    "best of": setting.best_of,
    "ranked": ranked if chosen else None,
  }


def _draw(
  run: Run, drawer: Drawer, setting: Setting, name: str, facts: Mapping[str, Any], rows_N: Int[np.ndarray, " N"]
) -> Parts:
  """The codes of the best sample of each caption."""

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    batch = run.read(rows_N[begin:end], drawer.dvae.image)
    rankers = _rankers(run, drawer, setting, batch.captions)
    how = {"num": setting.best_of, "seed": run.asked.seed, "keep": 1, "sampling": setting.sampling, "rankers": rankers}
    drawn = list(drawer.draw(batch.text_NT, numbers_C=rows_N[begin:end], **how))
    return {"codes": np.stack([each.codes_NP[each.kept_K[0]] for each in drawn]).astype(np.int32)}

  stages = {"transformer": run.transformer(draws=True)[1], "dvae": run.first_stage()[1]}
  weights = {kind: [stage.digest, model_digest(stage)] for kind, stage in stages.items()}
  about = {"what": "drawn", "weights": weights, "tokenizer": run.tokenizer_digest(), **facts}
  told = " ".join(part for part in ("drawing", run.split, name) if part)
  return run.measured(told, about, len(rows_N), compute, size=max(1, 256 // setting.best_of))


def _look(
  run: Run, drawer: Drawer, networks: Networks, codes: Parts, rows_N: Int[np.ndarray, " N"], name: str
) -> Parts:
  """What is seen in the drawn pictures."""
  codes_NP, judged = codes.column("codes"), "composition" in run.asked.metrics

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    asked = run.read(rows_N[begin:end], drawer.dvae.image)
    images = [drawer.decode(codes_NP[begin + rows]) for rows in run.devices.batches(end - begin, run.asked.batch)]
    images_NHWC = np.concatenate(images)[: end - begin]
    how = {"captions": asked.captions, "claims": asked.claims if judged else None}
    return looked_at.columns(images_NHWC, networks, run.asked.blur, **how)

  about = {"what": "seen in drawn", "codes": codes.folder.name, **_looking_facts(run, networks)}
  told = " ".join(part for part in ("looking at what was drawn", name) if part)
  return run.measured(told, about, len(rows_N), compute)


def _real(run: Run, drawer: Drawer, networks: Networks) -> Parts | None:
  """What is seen in all pictures of the split; None where reference statistics stand for them."""
  if run.asked.references and not set(run.asked.of(SAMPLES)) - {"fid", "kid"}:
    return None
  size, judged = drawer.dvae.image, "composition" in run.asked.metrics

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    asked = run.read(np.arange(begin, end), size)
    how = {"captions": asked.captions, "claims": asked.claims if judged else None}
    return looked_at.columns(asked.images_NHWC, networks, run.asked.blur, **how)

  about = {"what": "seen in real", **run.data_facts(size), **_looking_facts(run, networks)}
  return run.measured(f"looking at {run.split}", about, len(run), compute)


def _looking_facts(run: Run, networks: Networks) -> dict[str, Any]:
  return {
    "blur": [run.asked.blur, blur.named()],
    "inception": networks.inception and networks.inception.about,
    "clip": networks.clip and networks.clip.about,
    "judge": "composition" in run.asked.metrics,
    "tokenizer": run.tokenizer_digest(),
  }
