"""Everything that is measured of trained stages, in one value: losses, reconstructions, drawings, and what they score.

Which measurements are made depends on what there is: reconstructions need a dVAE, drawings a transformer as well, best
of N a CLIP or another ranking; composition is judged where captions come with claims, and elsewhere retrieval is
measured. A transformer trained image-first writes captions, which are judged where the data's own come with claims.

N examples, S samples of each, K kept ones, H W pixels.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, PyTree, UInt8

from dalle_jax.errors import UserError
from dalle_jax.evaluation import captioning, composition, examples, losses, reconstruction, retrieval
from dalle_jax.evaluation.captioning import Written
from dalle_jax.evaluation.composition import Judged
from dalle_jax.evaluation.examples import Examples, Prepared, Words
from dalle_jax.evaluation.reconstruction import Reconstruction
from dalle_jax.evaluation.retrieval import Retrieved
from dalle_jax.models import image_tokenizer, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.first_stage import FirstStage, FrozenVqgan
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import caption, ranking
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.devices import Devices
from dalle_jax.sampling.drawer import Drawer, Drawn
from dalle_jax.sampling.rankers import Weighted, mix

SECOND_SPLIT = "test_pairs"  # captioned_scenes' split of pairs that training never shows
LOSS_EXAMPLES = 512
PAIRS = 16
SECOND_SAMPLES = 8  # of each of its captions at most: it is there to be compared, and judging takes long
SHOWN, SHOWN_SECOND, KEPT = 24, 12, 8
RETRIEVED = 200

Progress = Callable[[str, int, int], object]
Ranking = Mapping[str, Weighted]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
  """A stage as it is measured: its objective, its weights and their digest, and where its schedules stand."""

  objective: FirstStage | TransformerNll | ClipContrastive
  params: PyTree
  digest: str
  batch: int
  step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
  """How it is measured. split: None takes the one that was trained on least; batch: pictures drawn at a time.

  rank: what chooses among samples, each as `ranking.parse` reads it; what is shown is chosen by the first. CLIP, where
  there is one, if empty.
  """

  captions: int = 250
  samples: int = 32
  rank: tuple[str, ...] = ()
  sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
  split: str | None = None
  seed: int = 0
  batch: int = 256

  def __post_init__(self) -> None:
    for name in ("captions", "samples", "batch"):
      if getattr(self, name) < 1:
        raise UserError(f"got {name}={getattr(self, name)}, wanted at least 1")
    for i, each in enumerate(self.rank):
      ranking.parse(each)
      if each in self.rank[:i]:
        raise UserError(f"got --rank {each} twice, wanted each ranking once")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
  """One caption's best samples, best first, beside the picture it belongs to. right_K: what the judge says of each."""

  split: str
  caption: str
  truth_HWC: UInt8[np.ndarray, "H W 3"]
  images_KHWC: UInt8[np.ndarray, "K H W 3"]
  scores_K: Float[np.ndarray, " K"] | None
  right_K: Bool[np.ndarray, " K"] | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Report:
  """What was measured; parts are empty where the stages they need are not there.

  split: of losses and reconstructions; pairs_2NHWC: originals and their reconstructions, a few to look at; ranked: the
  names of what has ranked the samples, that of the pictures shown first.
  """

  split: str
  protocol: Protocol
  losses: dict[str, dict[str, float]]
  reconstruction: Reconstruction | None = None
  pairs_2NHWC: UInt8[np.ndarray, "two N H W 3"] | None = None
  composition: tuple[Judged, ...] = ()
  retrieval: tuple[Retrieved, ...] = ()
  shown: tuple[Shown, ...] = ()
  ranked: tuple[str, ...] = ()
  written: Written | None = None

  @property
  def best_of(self) -> tuple[int, ...]:
    """The n whose best is reported."""
    samples = self.protocol.samples
    return tuple(sorted({1, *(n for n in (8, 32) if n < samples), samples})) if self.ranked else (1,)


def evaluate(
  stages: Mapping[str, Trained],
  prepared: Prepared,
  words: Words,
  protocol: Protocol,
  progress: Progress = lambda what, done, total: None,
  devices: Devices = Devices(),
) -> Report:
  """Measures the stages on the data. progress: told what is done, how many of it, and of how many.

  devices: where the stages' weights lie, and what is measured and drawn is split over. Raises UserError for a split
  that is not there, and for a ranking that is asked for where its model is not trained.
  """
  split = examples.held_out_split(prepared, protocol.split)
  draws = drawer(stages, protocol.batch, devices)
  rankings = _rankings(draws, protocol)
  found = held_out_losses(stages, prepared, split, words, progress, devices)
  report = Report(split=split, protocol=protocol, losses=found)
  vae = find(stages, FirstStage)
  if vae is None:
    return report
  held_out = examples.first(prepared, split, LOSS_EXAMPLES, size=vae.objective.model.image, words=words)
  report = dataclasses.replace(report, **_reconstructions(vae, held_out, progress, devices))
  writes = next((each for each in stages.values() if _image_first(each)), None)
  if writes and held_out.claims:
    written = _captions(writes, vae, prepared, split, words, protocol, progress, devices)
    report = dataclasses.replace(report, written=written)
  if draws is None:
    return report
  report = dataclasses.replace(report, ranked=tuple(rankings))
  measure = _compositions if held_out.claims else _retrievals
  return dataclasses.replace(report, **measure(draws, rankings, prepared, split, words, protocol, progress))


def _rankings(draws: Drawer | None, protocol: Protocol) -> dict[str, Ranking]:
  """What ranks, by its name."""
  if draws is None:
    if protocol.rank:
      raise UserError(f"got --rank {protocol.rank[0]}, and nothing that draws is trained in this run: leave it out")
    return {}
  asked = [ranking.parse(each) for each in protocol.rank] or [None]
  found = [ranking.rankers(draws, each) for each in asked]
  return {ranking.told(each): each for each in found if each}


def find(stages: Mapping[str, Trained], objective: type) -> Any:
  """The stage with that kind of objective, or None."""
  return next((stage for stage in stages.values() if isinstance(stage.objective, objective)), None)


def drawer(
  stages: Mapping[str, Trained],
  batch: int,
  devices: Devices = Devices(),
) -> Drawer | None:
  """What draws with these stages; None without a dVAE or a text-first transformer. Without CLIP it ranks nothing."""
  text_to_image = find({name: each for name, each in stages.items() if not _image_first(each)}, TransformerNll)
  vae, clip = find(stages, FirstStage), find(stages, ClipContrastive)
  if vae is None or text_to_image is None:
    return None
  model = text_to_image.objective.model
  return Drawer(
    transformer=model,
    transformer_params=transformer.in_compute_dtype(text_to_image.params, model),
    dvae=vae.objective.model,
    dvae_params=vae.params,
    clip=clip and clip.objective.model,
    clip_params=clip and clip.params,
    batch=batch,
    mesh=devices.mesh,
    rules=devices.rules,
  )


def _image_first(stage: Trained) -> bool:
  return isinstance(stage.objective, TransformerNll) and stage.objective.model.order == "image_first"


def held_out_losses(
  stages: Mapping[str, Trained],
  prepared: Prepared,
  split: str,
  words: Words,
  progress: Progress,
  devices: Devices = Devices(),
) -> dict[str, dict[str, float]]:
  """Each stage's metrics on the first examples of the split, in equal batches of the size it was trained with."""
  vae, found = find(stages, FirstStage), {}
  for i, (name, stage) in enumerate(stages.items()):
    progress("held-out losses", i, len(stages))
    if isinstance(stage.objective, FrozenVqgan) or (isinstance(stage.objective, TransformerNll) and vae is None):
      continue
    size = (vae or stage).objective.model.image if isinstance(stage.objective, TransformerNll) else None
    size = size or stage.objective.model.image
    held_out = examples.first(prepared, split, LOSS_EXAMPLES, size=size, words=words)
    frozen = {"dvae": vae.params} if vae else {}
    read = batches(stage, held_out, vae, devices)
    found[name] = losses.held_out(stage.objective, stage.params, frozen, read, step=stage.step, devices=devices)
  progress("held-out losses", len(stages), len(stages))
  return found


def batches(
  stage: Trained, held_out: Examples, vae: Trained | None, devices: Devices
) -> Iterator[dict[str, np.ndarray]]:
  """The examples in equal batches of the size the stage was trained with, as its objective reads them."""
  total = len(held_out.captions)
  size = min(stage.batch, total)
  for begin in range(0, total - size + 1, size):
    batch = {"image": held_out.images_NHWC[begin : begin + size], "text": held_out.text_NT[begin : begin + size]}
    if isinstance(stage.objective, FirstStage):
      del batch["text"]
    elif isinstance(stage.objective, TransformerNll) == (stage.objective.dvae is None):
      codes_Nhw = np.asarray(
        image_tokenizer.encode_images(vae.params, vae.objective.model, devices.put(batch.pop("image")))
      )
      batch["codes"] = codes_Nhw.reshape(size, -1)
    yield batch


def _reconstructions(vae: Trained, held_out: Examples, progress: Progress, devices: Devices) -> dict[str, Any]:
  cfg, images_NHWC, size = vae.objective.model, held_out.images_NHWC, min(64, len(held_out.captions))
  progress("reconstructions", 0, len(images_NHWC))
  parts = (images_NHWC[i : i + size] for i in range(0, len(images_NHWC), size))
  measured = reconstruction.measure(vae.params, cfg, parts, devices)
  few_NHWC = images_NHWC[:PAIRS]
  pairs_2NHWC = np.stack([few_NHWC, reconstruction.reconstruct(vae.params, cfg, few_NHWC, devices)[0]])
  progress("reconstructions", len(images_NHWC), len(images_NHWC))
  return {"reconstruction": measured, "pairs_2NHWC": pairs_2NHWC}


def _captions(
  writes: Trained,
  vae: Trained,
  prepared: Prepared,
  split: str,
  words: captioning.Spells,
  protocol: Protocol,
  progress: Progress,
  devices: Devices,
) -> Written:
  """Writes captions of the split's pictures and judges them."""
  model, pictures = writes.objective.model, vae.objective.model
  asked = examples.first(prepared, split, protocol.captions, size=pictures.image, words=words)
  parts = [asked.images_NHWC[i : i + 64] for i in range(0, len(asked.captions), 64)]
  codes_Nhw = np.concatenate(
    [np.asarray(image_tokenizer.encode_images(vae.params, pictures, devices.put(p))) for p in parts]
  )
  text_CNT, loglik_CN = caption.write(
    transformer.in_compute_dtype(writes.params, model),
    codes_Nhw.reshape(len(codes_Nhw), -1),
    num=protocol.samples,
    seed=protocol.seed,
    batch=protocol.batch,
    model=model,
    sampling=protocol.sampling,
    words=words.size,
    devices=devices,
    progress=_Told(f"writing captions of {split}", len(asked.captions) * protocol.samples, progress),
  )
  texts = [[words.decode(ids) for ids in each] for each in text_CNT.tolist()]
  scores_CN = loglik_CN / caption.tokens(text_CNT, model)
  own = list(zip(asked.captions, asked.claims))
  return captioning.judge_split(split, asked.images_NHWC, own, texts, scores_CN)


def _compositions(
  draws: Drawer,
  rankings: Mapping[str, Ranking],
  prepared: Prepared,
  split: str,
  words: Words,
  protocol: Protocol,
  progress: Progress,
) -> dict[str, Any]:
  """Draws and judges the captions of the split and of the one with pairs that training never shows."""
  judged, shown = [], []
  for name in dict.fromkeys([split, *(each for each in prepared.splits if each == SECOND_SPLIT)]):
    asked = examples.first(prepared, name, protocol.captions, size=draws.dvae.image, words=words)
    samples = protocol.samples if name == split else min(SECOND_SAMPLES, protocol.samples)
    drawn = _draw(draws, rankings, asked, dataclasses.replace(protocol, samples=samples), progress, keep=samples)
    in_order = np.stack([each.images_KHWC[np.argsort(each.kept_K)] for each in drawn])
    told = _Told(f"judging {name}", in_order.shape[0] * in_order.shape[1], progress)
    result = composition.judge_split(
      name,
      asked.claims or (),
      samples_CNHWC=in_order,
      scores={by: np.stack([_scores(each, chosen) for each in drawn]) for by, chosen in rankings.items()},
      reconstructions_CHWC=_reconstruct_all(draws, asked.images_NHWC),
      truths_CHWC=asked.images_NHWC,
      progress=told,
    )
    judged.append(result)
    count = SHOWN if name == split else SHOWN_SECOND
    shown += [_shown(asked, each, result.right["all"][each.caption]) for each in drawn[:count]]
  return {"composition": tuple(judged), "shown": tuple(shown)}


def _retrievals(
  draws: Drawer,
  rankings: Mapping[str, Ranking],
  prepared: Prepared,
  split: str,
  words: Words,
  protocol: Protocol,
  progress: Progress,
) -> dict[str, Any]:
  """Draws seeded captions of the training split and of the held-out one, and looks their true pictures up by pixels."""
  train = "train" if "train" in prepared.splits else split
  size, total = draws.dvae.image, len(prepared.source(train))
  candidates = examples.first(prepared, train, total, size=size, words=words)
  rows = np.random.default_rng(protocol.seed).choice(total, min(RETRIEVED, total), replace=False)
  asked = [examples.read(prepared, train, rows.tolist(), size=size, words=words, seed=protocol.seed)]
  where = [rows]
  pool_MHWC = candidates.images_NHWC
  if split != train:
    asked.append(examples.first(prepared, split, RETRIEVED, size=size, words=words))
    where.append(total + np.arange(len(asked[1].captions)))
  found, shown = [], []
  for each, true_C in zip(asked, where):
    # Held-out pictures compete with all training pictures, and with each other.
    pool_MHWC = candidates.images_NHWC if each.split == train else np.concatenate([pool_MHWC, each.images_NHWC])
    drawn = _draw(draws, rankings, each, protocol, progress, keep=KEPT)
    by = next(iter(rankings), None)
    best = f"best of {protocol.samples} by {by}" if by and protocol.samples > 1 else "one sample"
    kinds = {
      best: np.stack([one.images_KHWC[0] for one in drawn]),
      "ceiling: dVAE's reconstructions": _reconstruct_all(draws, each.images_NHWC),
    }
    for name, images_CHWC in kinds.items():
      ranks_C = retrieval.ranks(images_CHWC, pool_MHWC, true_C)
      found.append(Retrieved(split=each.split, pictures=name, ranks_C=ranks_C, candidates=len(pool_MHWC)))
    shown += [_shown(each, one, None) for one in drawn[:SHOWN]]
  return {"retrieval": tuple(found), "shown": tuple(shown)}


def _draw(
  draws: Drawer,
  rankings: Mapping[str, Ranking],
  asked: Examples,
  protocol: Protocol,
  progress: Progress,
  *,
  keep: int,
) -> list[Drawn]:
  """Samples of captions, ranked by the first ranking and scored by what all of them ask."""
  first, *others = rankings.values() or [{}]
  silent = {name: dataclasses.replace(each, weight=0.0) for other in others for name, each in other.items()}
  told = _Told(f"drawing {asked.split}", len(asked.captions) * protocol.samples, progress)
  return list(
    draws.draw(
      asked.text_NT,
      num=protocol.samples,
      seed=protocol.seed,
      keep=keep,
      sampling=protocol.sampling,
      rankers={**silent, **first},
      progress=told,
    )
  )


def _reconstruct_all(
  draws: Drawer, images_NHWC: UInt8[np.ndarray, "N H W 3"], size: int = 64
) -> UInt8[np.ndarray, "N H W 3"]:
  parts = [images_NHWC[i : i + size] for i in range(0, len(images_NHWC), size)]
  how = (draws.dvae_params, draws.dvae)
  return np.concatenate([reconstruction.reconstruct(*how, part, draws.devices)[0] for part in parts])


def _scores(drawn: Drawn, chosen: Ranking) -> Float[np.ndarray, " N"]:
  return mix(drawn.by_ranker, {name: weighted.weight for name, weighted in chosen.items()})


def _shown(asked: Examples, drawn: Drawn, right_N: Bool[np.ndarray, " N"] | None) -> Shown:
  kept_K = drawn.kept_K[:KEPT]
  return Shown(
    split=asked.split,
    caption=asked.captions[drawn.caption],
    truth_HWC=asked.images_NHWC[drawn.caption],
    images_KHWC=drawn.images_KHWC[:KEPT],
    scores_K=None if drawn.scores_N is None else drawn.scores_N[kept_K],
    right_K=None if right_N is None else right_N[kept_K],
  )


class _Told:
  """Adds up what the parts of a task report."""

  def __init__(self, what: str, total: int, progress: Progress):
    self._what, self._total, self._progress, self._done = what, total, progress, 0
    progress(what, 0, total)

  def __call__(self, count: int) -> None:
    self._done += count
    self._progress(self._what, self._done, self._total)
