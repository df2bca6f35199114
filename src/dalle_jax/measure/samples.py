"""Figures of drawn pictures: drawn once a setting, looked at by networks and the judge, held against real ones."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax.errors import UserError
from dalle_jax.evaluation import report
from dalle_jax.evaluation.metrics import blur, looked_at, of_pictures
from dalle_jax.evaluation.metrics.networks import Networks
from dalle_jax.evaluation.metrics.of_pictures import Seen
from dalle_jax.evaluation.metrics.parts import Parts, measured
from dalle_jax.evaluation.metrics.result import Measured
from dalle_jax.evaluation.reference import Reference
from dalle_jax.measure import seeing
from dalle_jax.measure.asked import SAMPLES, Setting
from dalle_jax.measure.dvae import part_size
from dalle_jax.measure.run import Run, sha256
from dalle_jax.measure.subsets import subsets
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import ranking
from dalle_jax.sampling.drawer import Drawer

SHOWN = 24


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
  """A few captions, and what was drawn of them with each setting."""

  captions: tuple[str, ...]
  drawn: tuple[tuple[str, UInt8[np.ndarray, "C H W 3"]], ...]


def check(run: Run, networks: Networks) -> None:
  """Raises UserError for what can't be drawn, ranked, judged or held against anything."""
  wanted = run.asked.of(SAMPLES)
  if not wanted:
    for flag, given in (("--sweep", len(run.asked.settings) > 1), ("--reference", run.asked.references)):
      if given:
        raise UserError(
          f"got {flag}, and no figure of drawn pictures is asked for: add --metrics {' '.join(SAMPLES[:3])}"
        )
    return
  drawer = _drawer(run)
  for _, setting in run.asked.settings:
    _rankers(run, drawer, setting)
  if "composition" in wanted and run.read(np.arange(1), drawer.dvae.image).claims is None:
    raise UserError(f"composition is judged where captions come with claims, and {run.prepared.name}'s have none")
  found = seeing.references(run)
  if found and (lacking := [radius for radius in run.asked.blur if radius not in found]):
    raise UserError(f"no --reference of pictures blurred by radius {lacking[0]:g}: make one, or leave --reference out")
  if "kid" in wanted and any(each.features_ND is None for each in found.values()):
    raise UserError("kid wants the features of the reference's pictures: make it with `dalle reference --keep`")
  for each in found.values():
    _check_reference(each, networks)


def _check_reference(found: Reference, networks: Networks) -> None:
  """Raises UserError where the statistics were made with another network, or another resize, than are named."""
  for name, value in networks.inception.about.items():
    theirs = (found.protocol or {}).get(name, value)  # a published file tells nothing, and the protocol says so
    if theirs != value:
      raise UserError(f"the --reference was made with {name} {theirs}, and the pictures are looked at with {value}")


def measure(run: Run, networks: Networks) -> tuple[list[Measured], Shown, int]:
  """The figures asked for, what to show, and the bytes of the parts that are kept."""
  drawer, rows_N = _drawer(run), _rows(run)
  name, _ = run.stage(TransformerNll, what="transformer")
  dvae_name, _ = run.stage(FirstStage, what="dVAE")
  facts = _facts(run, drawer, networks)
  real = _real(run, drawer, networks)
  found, drawn, size = [], [], real.bytes() if real else 0
  for setting_name, setting in run.asked.settings:
    own = facts | _setting_facts(run, drawer, setting, rows_N)
    codes = _draw(run, drawer, setting, setting_name, own, rows_N)
    seen = _look(run, drawer, networks, own, codes, rows_N, setting_name)
    size += codes.bytes() + seen.bytes()
    drawn.append((setting_name, drawer.decode(next(codes.each("codes"))[:SHOWN])))
    about = own | run.subject_facts(name, dvae_name)
    for (keep_N, mark, fact), real_keep_N in zip(subsets(run, rows_N), _keeps_of_all(run), strict=True):
      own_seen = Seen(of="drawn", parts=seen, keep_N=keep_N)
      real_seen = real and Seen(of="real", parts=real, keep_N=real_keep_N)
      for figure, more in _figures(run, networks, own_seen, real_seen):
        more = fact | {"blur": figure.blur and blur.named()} | more
        if figure.of == "drawn":
          figure = mark(dataclasses.replace(figure, setting=setting_name))
          found.append(Measured(figure=figure, protocol=about | more))
        elif setting is run.asked.settings[0][1]:  # real pictures are the same however others are drawn
          found.append(Measured(figure=mark(figure), protocol=facts | run.subject_facts(dvae_name) | more))
  captions = run.read(rows_N[:SHOWN], drawer.dvae.image).captions
  return found, Shown(captions=captions, drawn=tuple(drawn)), size


def _figures(run: Run, networks: Networks, drawn: Seen, real: Seen | None) -> Iterator[tuple[Any, Mapping[str, Any]]]:
  wanted = run.asked.of(SAMPLES)
  held: Mapping[float | int, Reference] = seeing.references(run)
  own = {"pictures": len(real) if real else 0, "of": f"all of {run.split}"}
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


def _keeps_of_all(run: Run) -> Iterator[np.ndarray]:
  for keep_N, _, _ in subsets(run):
    yield keep_N


def _drawer(run: Run) -> Drawer:
  """What draws, with the transformer that was named where there are several."""
  name, _ = run.stage(TransformerNll, what="transformer")
  others = {key for key, each in run.stages.items() if isinstance(each.objective, TransformerNll) and key != name}
  stages = {key: each for key, each in run.stages.items() if key not in others}
  found = report.drawer(stages, run.asked.batch, run.devices)
  if found is None:
    raise UserError(f"{run.workdir} cannot draw: it wants a dVAE and a text-first transformer with weights")
  return found


def _rankers(run: Run, drawer: Drawer, setting: Setting) -> dict[str, Any]:
  if setting.best_of == 1:
    return {}
  found = ranking.rankers(drawer, ranking.parse(run.asked.rank) if run.asked.rank else None)
  if not found:
    raise UserError(
      f"the best of {setting.best_of} has to be chosen by something, and no CLIP is trained: --rank likelihood"
    )
  return found


def _facts(run: Run, drawer: Drawer, networks: Networks) -> dict[str, Any]:
  words = sha256(run.workdir.tokenizer_file.read_bytes())
  return run.data_facts(drawer.dvae.image) | {
    "caption": "the first",
    "tokenizer": {"sha256": words},
    "seed": run.asked.seed,
  }


def _setting_facts(run: Run, drawer: Drawer, setting: Setting, rows_N: np.ndarray) -> dict[str, Any]:
  clip, chosen = report.find(run.stages, ClipContrastive), _rankers(run, drawer, setting)
  by = {"by": ranking.told(chosen), "clip": clip.digest if clip and "clip" in chosen else None} if chosen else None
  return {
    "captions": {"drawn": len(rows_N), "chosen by": "seed" if len(rows_N) < len(run) else "all"},
    "sampling": dataclasses.asdict(setting.sampling),
    "best of": setting.best_of,
    "ranked": by,
  }


def _draw(
  run: Run, drawer: Drawer, setting: Setting, name: str, facts: Mapping[str, Any], rows_N: Int[np.ndarray, " N"]
) -> Parts:
  """The codes of the best sample of each caption."""
  rankers = _rankers(run, drawer, setting)

  def compute(begin: int, end: int) -> dict[str, np.ndarray]:
    batch = run.read(rows_N[begin:end], drawer.dvae.image)
    how = {"num": setting.best_of, "seed": run.asked.seed, "keep": 1, "sampling": setting.sampling, "rankers": rankers}
    drawn = list(drawer.draw(batch.text_NT, numbers_C=rows_N[begin:end], **how))
    return {"codes": np.stack([each.codes_NP[each.kept_K[0]] for each in drawn]).astype(np.int32)}

  weights = {key: each.digest for key, each in run.stages.items() if not isinstance(each.objective, ClipContrastive)}
  about, total = {"what": "drawn", "weights": weights, **facts}, len(rows_N)
  told = run.tell(" ".join(part for part in ("drawing", run.split, name) if part), total)
  size = max(1, part_size(run) // setting.best_of)
  return measured(run.out / "parts", about, total, compute, size=size, progress=told)


def _look(
  run: Run,
  drawer: Drawer,
  networks: Networks,
  facts: Mapping[str, Any],
  codes: Parts,
  rows_N: Int[np.ndarray, " N"],
  name: str,
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
  told = run.tell(" ".join(part for part in ("looking at what was drawn", name) if part), len(rows_N))
  return measured(run.out / "parts", about, len(rows_N), compute, size=part_size(run), progress=told)


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
  told = run.tell(f"looking at {run.split}", len(run))
  return measured(run.out / "parts", about, len(run), compute, size=part_size(run), progress=told)


def _looking_facts(run: Run, networks: Networks) -> dict[str, Any]:
  return {
    "blur": [run.asked.blur, blur.named()],
    "inception": networks.inception and networks.inception.about,
    "clip": networks.clip and networks.clip.about,
    "judge": "composition" in run.asked.metrics,
    "tokenizer": sha256(run.workdir.tokenizer_file.read_bytes()),
  }
