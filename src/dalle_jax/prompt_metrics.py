"""`dalle train --every N --metrics ...`: a stage measured on a fixed list of captions while it trains.

Pictures of the same captions are drawn with the same noise each time, one of each, so that a curve moves by what was
learnt and not by chance. A transformer's pictures are judged and scored; held-out losses are of any stage.

N captions, T text positions, H W pixels.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int, UInt8

from dalle_jax import processes, published
from dalle_jax.data import judge, prompts, scene_parsing, scenes
from dalle_jax.data.captions import typed_ids
from dalle_jax.data.prepared import Prepared
from dalle_jax.data.prompts import Prompt
from dalle_jax.errors import UserError
from dalle_jax.evaluation import losses, prompt_log, report
from dalle_jax.evaluation.intervals import wilson
from dalle_jax.evaluation.prompt_log import PromptLog
from dalle_jax.evaluation.published_clip import PublishedCosine
from dalle_jax.evaluation.report import Trained
from dalle_jax.experiment import Experiment, Stage, dvae_stage
from dalle_jax.models import transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeObjective
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.devices import Devices
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.gallery import contact_sheet
from dalle_jax.sampling.rankers import Candidates, ClipCosine, Ranker
from dalle_jax.showing import NoWords, held_out_split
from dalle_jax.showing import held_out as first_held_out
from dalle_jax.training.loop import Hook
from dalle_jax.workdir import Workdir

Metric = Literal["losses", "composition", "clip"]
OF_PICTURES: tuple[Metric, ...] = ("composition", "clip")
CAPTIONS = 64
SEED, BATCH, SHOWN = 0, 64, 16
PREFIX = "prompts_"

Measure = Callable[[int, Any], Mapping[str, Any]]
OfPictures = Callable[[UInt8[np.ndarray, "N H W 3"]], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """Every so many steps, and after the last, these metrics; of a file's first captions, or of held-out ones.

  limit: how many captions; None for `CAPTIONS` of them. clip: a converted CLIP; None for the run's own.
  """

  every: int
  metrics: tuple[Metric, ...]
  prompts: str | None = None
  limit: int | None = None
  clip: str | None = None

  def __post_init__(self) -> None:
    for name, value in (("every", self.every), ("prompts-limit", self.limit)):
      if value is not None and value < 1:
        raise UserError(f"got --{name} {value}, wanted at least 1")
    if not self.metrics:
      raise UserError(f"--every wants --metrics: one or more of {', '.join(get_args(Metric))}")
    if twice := [each for i, each in enumerate(self.metrics) if each in self.metrics[:i]]:
      raise UserError(f"got --metrics {twice[0]} twice, wanted each once")
    if (self.prompts is not None or self.limit is not None) and not self.of_pictures:
      raise UserError("--prompts is read by the metrics of pictures alone: add --metrics composition or clip")
    if self.clip is not None and "clip" not in self.metrics:
      raise UserError(f"--clip {self.clip} is read by --metrics clip alone: add it, or leave out --clip")

  @property
  def captions(self) -> int:
    """How many at most."""
    return CAPTIONS if self.limit is None else self.limit

  @property
  def of_pictures(self) -> tuple[Metric, ...]:
    """Those that draw."""
    return tuple(each for each in self.metrics if each in OF_PICTURES)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Listed:
  """The captions, and what each claims where that is asked for."""

  prompts: tuple[Prompt, ...]
  claims: tuple[scenes.Claims, ...] | None

  @property
  def digest(self) -> str:
    """Of the texts."""
    return hashlib.sha256(json.dumps([each.text for each in self.prompts]).encode()).hexdigest()[:16]


def check(
  asked: Asked,
  experiment: Experiment,
  names: Sequence[str],
  workdir: Workdir,
  prepared: Prepared,
  stands_at: Callable[[str], int],
) -> None:
  """Raises UserError for what would stop a measurement, before anything is written or trained.

  names: the stages that are run, of which those that are done are not measured; stands_at: a stage's newest step.
  """
  stages = {name: experiment.stage(name) for name in names if not experiment.stage(name).frozen}
  drawing = [name for name, stage in stages.items() if _draws(stage)]
  if asked.of_pictures:
    if not drawing:
      raise UserError(f"--metrics {asked.of_pictures[0]} wants a stage that draws; {' and '.join(names)} draw nothing")
    _listed(asked, prepared)
  if asked.clip is not None:
    published.clip(asked.clip)
  elif "clip" in asked.metrics:
    _check_clip(experiment, list(names), drawing[0], stands_at)
  for name, stage in stages.items():
    if stands_at(name) >= stage.steps:
      continue
    begun = prompt_log.read(workdir.path / name)
    if begun is not None and (differs := prompt_log.difference(begun[0], _protocol(asked, stage, prepared))):
      raise UserError(f"{name}'s {prompt_log.NAME}.jsonl was begun with {differs}: ask for the same, or move it away")


def hooks(
  asked: Asked | None, name: str, workdir: Workdir, prepared: Prepared, say: Callable[[str], object]
) -> Sequence[Hook]:
  """The hook of one stage; none where nothing is asked of it. Rows after the stage's newest checkpoint are let go of.

  say: told in a line how many captions are cut off. All processes have it, for all gather the weights, and the first
  one alone is called. Raises UserError where what was measured before is of another protocol.
  """
  stage = workdir.experiment().stage(name)
  if asked is None or not _own(asked, stage):
    return ()
  if processes.index():
    return (Hook(every=asked.every, fn=lambda step, params: None),)
  measures, weights = [], {}
  if "losses" in asked.metrics:
    measures.append(_losses(stage, workdir, prepared))
  if asked.of_pictures and _draws(stage):
    measure, weights = _pictures(asked, stage, workdir, prepared, say)
    measures.append(measure)
  protocol = _protocol(asked, stage, prepared) | weights
  log = PromptLog(workdir.path / name, protocol, workdir.step(name))

  def measured(step: int, params: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for measure in measures:
      found |= measure(step, params)
    numbers = {key: value for key, value in found.items() if isinstance(value, float)}
    log.add(step, numbers)
    return {PREFIX + key: value for key, value in found.items()}

  return (Hook(every=asked.every, fn=measured),)


def _draws(stage: Stage) -> bool:
  return isinstance(stage.objective, TransformerNll) and stage.objective.model.order == "text_first"


def _own(asked: Asked, stage: Stage) -> tuple[Metric, ...]:
  """What of the metrics this stage has."""
  return tuple(each for each in asked.metrics if each not in OF_PICTURES or _draws(stage))


def _protocol(asked: Asked, stage: Stage, prepared: Prepared) -> dict[str, Any]:
  """What the numbers of a curve have in common. (How often they are measured is not of it.)"""
  own = _own(asked, stage)
  told: dict[str, Any] = {"metrics": sorted(own), "data": prepared.digest()[:16], "split": held_out_split(prepared)}
  if set(own) & set(OF_PICTURES):
    listed = _listed(asked, prepared)
    told |= {"captions": len(listed.prompts), "of captions": listed.digest, "samples": 1, "seed": SEED}
    told |= {"temperature": 1.0, "guidance": 1.0}
  if "losses" in own:
    told["examples of losses"] = min(report.LOSS_EXAMPLES, len(prepared.source(held_out_split(prepared))))
  return told


def _listed(asked: Asked, prepared: Prepared) -> Listed:
  """The captions, with their claims where composition is asked for. Raises UserError where one has none."""
  wanted = "composition" in asked.metrics
  if asked.prompts is not None:
    found = prompts.read(asked.prompts, asked.captions)
    claims = [scene_parsing.parse(each.text) if wanted else None for each in found]
    if wanted and None in claims:
      text = found[claims.index(None)].text
      raise UserError(
        f"--metrics composition: nothing judges the caption {text[:60]!r}: it is not in the scenes' words"
      )
    return Listed(prompts=found, claims=tuple(claims) if wanted else None)
  source = prepared.source(held_out_split(prepared))
  rows = [source[row] for row in range(min(asked.captions, len(source)))]
  if wanted and not all(row["attributes"] for row in rows):
    raise UserError("--metrics composition: this data has no judge of its captions: leave it out, or take clip")
  claims = [scenes.claims_of(row["attributes"])[0] for row in rows] if wanted else None
  return Listed(
    prompts=tuple(Prompt(text=row["captions"][0]) for row in rows), claims=None if claims is None else tuple(claims)
  )


def _check_clip(experiment: Experiment, names: list[str], drawing: str, stands_at: Callable[[str], int]) -> None:
  """Raises UserError where no CLIP will have weights when the stage that draws begins."""
  found = [name for name, stage in experiment.stages.items() if isinstance(stage.objective, ClipContrastive)]
  if not found:
    raise UserError("--metrics clip wants a CLIP stage, and the experiment has none: name a converted one, --clip DIR")
  before = found[0] in names[: names.index(drawing)]
  if not (experiment.stage(found[0]).frozen or before or stands_at(found[0])):
    raise UserError(
      f"--metrics clip wants a trained CLIP when {drawing} begins, and {found[0]} has no weights yet: train it first, "
      f"with --only {found[0]}"
    )


def _losses(stage: Stage, workdir: Workdir, prepared: Prepared) -> Measure:
  """The stage's own losses on held-out examples, read once."""
  experiment = workdir.experiment()
  name = dvae_stage(experiment)
  reads_pictures = isinstance(stage.objective, DvaeObjective)
  vae, size = None, stage.objective.model.image if hasattr(stage.objective.model, "image") else None
  if not reads_pictures and name is not None and (experiment.stage(name).frozen or workdir.step(name)):
    params, digest = workdir.weights(name)
    first = experiment.stage(name)
    vae = Trained(objective=first.objective, params=params, digest=digest, batch=first.batch, step=first.steps)
    size = size or first.objective.model.image
  words = NoWords() if reads_pictures else workdir.tokenizer()
  examples = first_held_out(prepared, words, report.LOSS_EXAMPLES, size)
  about = Trained(objective=stage.objective, params=None, digest="", batch=stage.batch, step=0)
  read = list(report.batches(about, examples, vae, Devices()))
  frozen = {"dvae": vae.params} if vae else {}

  def measure(step: int, params: Any) -> Mapping[str, float]:
    found = losses.held_out(stage.objective, params, frozen, read, step=step)
    return {f"held_out_{key}": value for key, value in found.items() if key.startswith(("loss", "nll"))}

  return measure


def _pictures(
  asked: Asked, stage: Stage, workdir: Workdir, prepared: Prepared, say: Callable[[str], object]
) -> tuple[Measure, dict[str, str]]:
  """Draws each caption once and measures the pictures; and the digests of the weights that take part."""
  experiment, listed, words = workdir.experiment(), _listed(asked, prepared), workdir.tokenizer()
  name = dvae_stage(experiment)
  if name is None:
    raise UserError("--metrics of pictures want a dVAE that decodes them, and the experiment has none")
  vae, (vae_params, vae_digest) = experiment.stage(name).objective.model, workdir.weights(name)
  cut: list[str] = []
  text_NT = np.stack([typed_ids(words, each.text, strict=False, say=cut.append) for each in listed.prompts])
  if cut:
    say(
      f"--every: {len(cut)} of {len(text_NT)} captions are longer than what is read of them, and cut off at their end"
    )
  weights, kinds = {"dvae": vae_digest}, []
  if listed.claims is not None:
    kinds.append(_composition(listed.claims))
  if "clip" in asked.metrics:
    cosines, weights["clip"] = _published(asked.clip, listed) if asked.clip else _own_clip(workdir)
    kinds.append(_clip(cosines, listed, text_NT))
  model = stage.objective.model

  def measure(step: int, params: Any) -> Mapping[str, Any]:
    drawer = Drawer(
      transformer=model,
      transformer_params=transformer.in_compute_dtype(params, model),
      dvae=vae,
      dvae_params=vae_params,
      batch=BATCH,
    )
    drawn = drawer.draw(text_NT, num=1, seed=SEED, rankers={})
    images_NHWC = np.stack([each.images_KHWC[0] for each in drawn])
    found: dict[str, Any] = {}
    for kind in kinds:
      found |= kind(images_NHWC)
    captions = [each.text for each in listed.prompts[:SHOWN]]
    return found | {"samples": np.asarray(contact_sheet(list(images_NHWC[:SHOWN]), captions, columns=4))}

  return measure, weights


def _composition(claims: Sequence[scenes.Claims]) -> OfPictures:
  def measure(images_NHWC: UInt8[np.ndarray, "N H W 3"]) -> Mapping[str, float]:
    right = sum(verdict.all_right for verdict in judge.judge(images_NHWC, claims))
    found = wilson(right, len(claims))
    return {"composition": found.rate, "composition_low": found.low, "composition_high": found.high}

  return measure


def _own_clip(workdir: Workdir) -> tuple[Ranker, str]:
  """The run's CLIP, and the digest of its weights."""
  stages = workdir.experiment().stages.items()
  name, stage = next((name, each) for name, each in stages if isinstance(each.objective, ClipContrastive))
  params, digest = workdir.weights(name)
  return ClipCosine(model=stage.objective.model, params=params), digest


def _published(directory: str, listed: Listed) -> tuple[Ranker, str]:
  """A converted CLIP, which reads the captions itself, and the digest of its weights."""
  clip = published.clip(directory)
  return PublishedCosine(clip, [each.text for each in listed.prompts]), clip.digest


def _clip(cosines: Ranker, listed: Listed, text_NT: Int[np.ndarray, "N T"]) -> OfPictures:
  """CLIP's mean cosine of each picture and its caption: of all, and of PartiPrompts' categories and challenges."""
  groups: dict[str, list[int]] = {}
  for number, each in enumerate(listed.prompts):
    for group in filter(None, (each.category, each.challenge)):
      groups.setdefault(f"clip/{group}", []).append(number)

  def measure(images_NHWC: UInt8[np.ndarray, "N H W 3"]) -> Mapping[str, float]:
    found = []
    for first in range(0, len(images_NHWC), BATCH):
      number_C = np.arange(first, min(first + BATCH, len(images_NHWC)))
      codes_CSP = np.zeros((len(number_C), 1, 1), int)  # cosines are of pixels
      found.append(cosines(Candidates(number_C, text_NT[number_C], codes_CSP, images_NHWC[number_C][:, None])))
    cosine_N = np.concatenate(found)[:, 0]
    means = {group: float(cosine_N[numbers].mean()) for group, numbers in groups.items()}
    return {"clip": float(cosine_N.mean())} | means

  return measure
