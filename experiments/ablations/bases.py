"""What the packs of this directory start from: the embedded captioned scenes at three sizes, and the paper's recipe.

smoke   two updates of models as small as their fields allow, to see that a pack runs
tiny    the demo's sizes for three minutes or more on two cores: 32x32 pixels, 8x8 codes, 4 layers of 4 heads of 32
small   64x64 pixels, eight to a code's side as in the paper, 8 layers of 8 heads of 32: hours, or a GPU
paper   the paper's (`experiments/dalle_12b.py`), over the prepared pictures that `--data` names

What is not the paper's below "paper": the transformer's codes are clusters of patches (`objectives.patch_dvae`), which
take half a minute to train; rates and schedules are as short as the runs. The optimizer is the paper's AdamW.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import dalle_12b
import dvae_256

from dalle_jax.ablations import Arm, Scale
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Codes, Experiment, Objective, Pictures, Stage
from dalle_jax.models import clip as towers
from dalle_jax.models import dvae as codebook
from dalle_jax.models import transformer as stream
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.patch_dvae import PatchDvae
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Cosine
from dalle_jax.training.muon import Muon
from dalle_jax.training.optimizers import AdamW, Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
  """How large the three models are, and how long they train: `steps` of the clusters' decoder, of the dVAE by the
  published objective, of the transformer and of CLIP; batch: of all but CLIP, which takes three times as many;
  hidden, clusters: of the dVAE of clusters; relaxed, vocab: the same of the one by the published objective."""

  image: int
  hidden: int
  relaxed: int
  groups: int
  clusters: int
  vocab: int
  words: int
  layers: int
  heads: int
  head_dim: int
  width: int
  batch: int
  patches_from: int
  steps: tuple[int, int, int, int]
  rate: float
  mix: tuple[str, ...] = ("row", "column", "row", "row")


SIZES: Mapping[str, Size] = {
  "smoke": Size(
    image=16,
    hidden=4,
    relaxed=4,
    groups=3,
    clusters=16,
    vocab=16,
    words=320,
    layers=2,
    heads=2,
    head_dim=4,
    width=8,
    batch=4,
    patches_from=8,
    steps=(2, 2, 2, 2),
    rate=1e-3,
  ),
  "tiny": Size(
    image=32,
    hidden=48,
    relaxed=32,
    groups=3,
    clusters=1536,
    vocab=256,
    words=512,
    layers=4,
    heads=4,
    head_dim=32,
    width=128,
    batch=16,
    patches_from=2500,
    steps=(500, 3100, 2300, 600),
    rate=3e-3,
  ),
  "small": Size(
    image=64,
    hidden=32,
    relaxed=32,
    groups=4,
    clusters=2048,
    vocab=1024,
    words=512,
    layers=8,
    heads=8,
    head_dim=32,
    width=128,
    batch=32,
    patches_from=5000,
    steps=(800, 30_000, 20_000, 3500),
    rate=1.5e-3,
  ),
}


CONTROL = "1/30 of the rate"
KERNEL = 3  # of convolutions, which is a third of a row of 8 codes as the paper's 11 is of 32


def transformer(scale: Scale) -> Experiment:
  """The stages "dvae" and "transformer"; a pack trains the second."""
  if scale.name == "paper":
    return _only(dalle_12b.experiment(scale.data), "dvae", "transformer")
  size = SIZES[scale.name]
  return _experiment("transformer", scale, {"dvae": _clusters(size), "transformer": _transformer(size)})


def dvae(scale: Scale) -> Experiment:
  """The stage "dvae" by the published objective."""
  if scale.name == "paper":
    return dvae_256.experiment(scale.data)
  return _experiment("dvae", scale, {"dvae": _dvae(SIZES[scale.name])})


def clip(scale: Scale) -> Experiment:
  """The stages "dvae", "clip" and "transformer", in this order: a pack of what is drawn trains the last one alone."""
  if scale.name == "paper":
    return _only(dalle_12b.experiment(scale.data), "dvae", "clip", "transformer")
  size = SIZES[scale.name]
  stages = {"dvae": _clusters(size), "clip": _clip(size), "transformer": _transformer(size)}
  return _experiment("drawing", scale, stages)


def changed(
  base: Experiment,
  stage: str,
  *,
  model: Mapping[str, Any] | None = None,
  objective: Mapping[str, Any] | None = None,
  optimizer: Mapping[str, Any] | Optimizer | None = None,
  **fields: Any,
) -> Experiment:
  """The experiment with fields of a stage replaced: its model's, its objective's, its optimizer's (or another
  optimizer), and its own."""
  old = base.stage(stage)
  aim = dataclasses.replace(old.objective, **(objective or {}))
  if model:
    aim = dataclasses.replace(aim, model=dataclasses.replace(aim.model, **model))
  if not isinstance(optimizer, Optimizer):
    optimizer = dataclasses.replace(old.optimizer, **(optimizer or {}))
  own = {"objective": aim, "optimizer": optimizer} | fields
  return dataclasses.replace(base, stages={**base.stages, stage: dataclasses.replace(old, **own)})


def longer_text(base: Experiment, length: int) -> Experiment:
  """The experiment with so many text positions, in the tokenizer and in every model that reads text."""
  found = {}
  for name, stage in base.stages.items():
    if hasattr(stage.objective.model, "text"):
      model = dataclasses.replace(stage.objective.model, text=length)
      stage = dataclasses.replace(stage, objective=dataclasses.replace(stage.objective, model=model))
    found[name] = stage
  words = dataclasses.replace(base.tokenizer, length=length)
  return dataclasses.replace(base, tokenizer=words, stages=found)


def control(stage: str, setting: Any = None) -> Arm:
  """The arm that most packs know to be worse: a thirtieth of the stage's learning rate."""
  return Arm(
    name=CONTROL,
    change=lambda base: slower(base, stage),
    fields=(f"stages.{stage}.optimizer.lr",),
    setting=setting,
  )


def slower(base: Experiment, stage: str, by: float = 30) -> Experiment:
  """The experiment with a fraction of the stage's learning rate."""
  rate = base.stage(stage).optimizer.lr
  ends = {name: getattr(rate, name) / by for name in ("start", "end", "peak", "value") if hasattr(rate, name)}
  return changed(base, stage, optimizer={"lr": dataclasses.replace(rate, **ends)})


def _experiment(name: str, scale: Scale, stages: dict[str, Stage]) -> Experiment:
  words = TokenizerConfig(vocab=SIZES[scale.name].words, length=32, spaces=False, dropout=0.0)
  return Experiment(name=f"{name}-{scale.name}", data=scale.data, tokenizer=words, stages=stages)


def _only(base: Experiment, *names: str) -> Experiment:
  return dataclasses.replace(base, stages={name: base.stage(name) for name in names})


def _cluster_codes(size: Size) -> codebook.Config:
  sizes = {"image": size.image, "hidden": size.hidden, "groups": size.groups, "vocab": size.clusters}
  return codebook.Config(**sizes, blocks=1, code_dim=64, pool="fold")


def _clusters(size: Size) -> Stage:
  """The demo's first stage: codes of patches, whose decoder alone learns."""
  return _stage(
    size.steps[0],
    size.batch,
    PatchDvae(model=_cluster_codes(size), patches_from=size.patches_from),
    AdamW(lr=_rate(4e-3, size.steps[0]), clip=1.0, ema=0.99),
    Pictures(crop=Stage1Crop(size=size.image)),
  )


def _dvae(size: Size) -> Stage:
  """The published objective and model, its schedules stretched to the run.

  The paper's weight of the KL rises for 0.2 % of its run and the temperature falls for 5 %. At so few updates the codes
  then fall together before they say anything: 5 % and 30 % leave them apart. The pictures are drawn, and a density of
  their flat colours has no bound, so they are spread over their levels.
  """
  steps = size.steps[1]
  sizes = {"image": size.image, "hidden": size.relaxed, "groups": size.groups, "vocab": size.vocab}
  return _stage(
    steps,
    size.batch,
    DvaeElbo(
      model=codebook.Config(**sizes, blocks=1, code_dim=32),
      kl=Cosine(start=0.0, end=6.6, steps=max(1, steps // 20)),
      temperature=Cosine(start=1.0, end=1 / 16, steps=max(1, 3 * steps // 10)),
      spread_levels=True,
    ),
    AdamW(lr=_rate(2e-3, steps), decay=1e-4, clip=1.0, ema=0.99),
    Pictures(crop=Stage1Crop(size=size.image)),
  )


def _transformer(size: Size) -> Stage:
  codes, steps = _cluster_codes(size), size.steps[2]
  model = stream.Config(
    text_vocab=size.words,
    text=32,
    image_vocab=codes.vocab,
    grid=codes.grid,
    layers=size.layers,
    heads=size.heads,
    head_dim=size.head_dim,
    mix=size.mix,
    kernel=KERNEL,
    scan=False,
  )
  optimizer = AdamW(lr=_rate(size.rate, steps), b2=0.96, decay=4.5e-2, clip=4.0, second_moment_clamp=5.0, ema=0.99)
  return _stage(steps, size.batch, TransformerNll(model=model), optimizer, Codes())


def _clip(size: Size) -> Stage:
  codes, steps = _cluster_codes(size), size.steps[3]
  model = towers.Config(
    image=size.image,
    patch=8,
    text_vocab=size.words,
    text=32,
    embed=size.width,
    vision_layers=3,
    vision_width=size.width,
    vision_heads=4,
    text_layers=2,
    text_width=size.width,
    text_heads=4,
    scan=False,
  )
  optimizer = Muon(lr=_rate(2e-3, steps), b2=0.98, eps=1e-6, decay=0.1, clip=1.0, ema=0.99)
  objective = ClipContrastive(model=model, dvae=codes, spoil_picture=0.1)
  return _stage(steps, 3 * size.batch, objective, optimizer, Codes(near_misses=True))


def _stage(steps: int, batch: int, objective: Objective, optimizer: AdamW | Muon, examples: Pictures | Codes) -> Stage:
  """No pictures on the way; saved four times, so that what is killed goes on."""
  sizes = {"steps": steps, "batch": batch, "save_every": max(1, steps // 4), "keep": 1, "show_every": 2 * steps}
  return Stage(**sizes, objective=objective, optimizer=optimizer, examples=examples, log_every=min(50, steps))


def _rate(peak: float, steps: int) -> Cosine:
  return Cosine(start=peak, end=peak / 50, steps=steps, warmup=min(100, steps // 4))
