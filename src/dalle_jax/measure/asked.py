"""What a person asks to be measured, and what of it can be."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from dalle_jax.errors import UserError
from dalle_jax.evaluation.features import DIMS
from dalle_jax.evaluation.metrics.ssim import WINDOW
from dalle_jax.experiment import Experiment
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling import ranking
from dalle_jax.sampling.choose import SamplingConfig

DVAE = ("nll", "elb", "psnr", "ssim", "codes", "rfid")
TRANSFORMER = ("loss",)
SAMPLES = ("fid", "kid", "is", "fd_clip", "clip_score", "r_precision", "composition")
METRICS = (*DVAE, *TRANSFORMER, *SAMPLES)
LIKELIHOOD = ("nll", "elb")  # of dVAEs that were trained by the published objective alone
OF_INCEPTION, OF_CLIP = ("rfid", "fid", "kid", "is"), ("fd_clip", "clip_score", "r_precision")


# What a sweep may try.
KINDS = {"guidance": float, "temperature": float, "top_k": int, "top_p": float, "best_of": int}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """One way to draw: how tokens are chosen, and of how many samples the best is taken."""

  sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
  best_of: int = 1

  def __post_init__(self) -> None:
    if self.best_of < 1:
      raise UserError(f"got best_of={self.best_of}, wanted 1 (no ranking) or more")


# What is read for some metrics alone; what their flags are called.
READ_BY = {
  ("pictures", "blur", "settings", "rank"): SAMPLES,
  ("references",): ("fid", "kid"),
  ("inception", "resize", "features"): OF_INCEPTION,
  ("clip",): OF_CLIP,
}
FLAGS = {"settings": "sweep, or a way to draw", "references": "reference"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """metrics: of METRICS; stage: whose, where a run has several of a kind; pictures: captions that are drawn, at most.

  split: None takes the one that was trained on least; blur: radii at which drawn and real pictures are looked at;
  settings: ways to draw, each with a name ("" where there is one); rank: what chooses the best of several samples;
  inception: its weights; resize: how pictures get to its size; features: how many of its numbers; clip: a published
  one's converted weights, the run's own if ""; references: statistics of reference pictures, of the split itself where
  there is none; exclude: a list of pictures that are too like training ones.
  """

  metrics: tuple[str, ...]
  stage: str | None = None
  split: str | None = None
  pictures: int = 30_000
  seed: int = 0
  batch: int = 64
  blur: tuple[float | int, ...] = (0,)
  settings: tuple[tuple[str, Setting], ...] = (("", Setting()),)
  rank: str | None = None
  inception: str = ""
  resize: str = "clean"
  features: int = DIMS[-1]
  clip: str = ""
  references: tuple[str, ...] = ()
  exclude: str = ""

  def __post_init__(self) -> None:
    for name in self.metrics:
      if name not in METRICS:
        raise UserError(f"got --metrics {name}, wanted some of {', '.join(METRICS)}")
    for name in ("pictures", "batch"):
      if getattr(self, name) < 1:
        raise UserError(f"got --{name} {getattr(self, name)}, wanted at least 1")
    if not 0 <= self.seed < 2**32:
      raise UserError(f"got --seed {self.seed}, wanted 0 to {2**32 - 1}")
    right = all(math.isfinite(radius) and radius >= 0 for radius in self.blur)
    if not self.blur or not right or len({f"{radius:g}" for radius in self.blur}) < len(self.blur):
      raise UserError(f"got --blur {' '.join(f'{r:g}' for r in self.blur)}, wanted radii of 0 or more, each once")
    if self.rank and all(setting.best_of == 1 for _, setting in self.settings):
      raise UserError(f"got --rank {self.rank} with one sample a caption: add --best-of 32, or leave it out")
    if self.ranked_by_published and not self.clip:
      raise UserError(f"got --rank {self.rank}: by which CLIP? Name what `dalle convert` made of one, --clip DIR")
    if self.exclude and self.references:
      raise UserError("got --exclude and --reference, which holds what the list leaves out: name one of them")
    if self.features not in DIMS or ("is" in self.metrics and self.features != DIMS[-1]):
      raise UserError(
        f"got --features {self.features}, wanted one of {', '.join(map(str, DIMS))}, and {DIMS[-1]} for is"
      )
    for fields, readers in READ_BY.items():
      asked = [each for each in fields if each != "clip" or not self.ranked_by_published]
      if not self.of(readers) and (unread := [each for each in asked if getattr(self, each) != DEFAULTS[each]]):
        told = FLAGS.get(unread[0], unread[0])
        raise UserError(
          f"got --{told}, which {' '.join(self.metrics)} does not read: leave it out, or add {readers[0]}"
        )

  @property
  def ranked_by_published(self) -> bool:
    """Whether the published CLIP chooses among samples, not only gives figures."""
    return bool(self.rank) and ranking.PUBLISHED in ranking.parse(self.rank)

  def of(self, group: Sequence[str]) -> list[str]:
    """The metrics of this group that are asked for, in the group's order."""
    return [name for name in group if name in self.metrics]


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Asked)}


def sweep(given: Sequence[str], setting: Setting) -> tuple[tuple[str, Setting], ...]:
  """All combinations of what is to be tried, such as ("guidance=1,3", "temperature=0.85,1"), each with its name.

  What is not tried is as in `setting`. Raises UserError for a name that is not one of the sampling's, or no number.
  """
  tried: dict[str, list[Any]] = {}
  for each in given:
    name, _, values = each.partition("=")
    if name not in KINDS or name in tried or not values:
      raise UserError(f"got --sweep {each}, wanted each of {', '.join(KINDS)} at most once, as in guidance=1,3,5")
    own = setting.best_of if name == "best_of" else getattr(setting.sampling, name)
    if own != (1 if name == "best_of" else getattr(SamplingConfig(), name)):
      raise UserError(f"got --{name.replace('_', '-')} {own:g} and --sweep {each}, which says the same: leave one out")
    try:
      tried[name] = [KINDS[name](value) for value in values.split(",")]
    except ValueError as error:
      raise UserError(f"got --sweep {each}, wanted numbers, as in guidance=1,3,5") from error
    if len(set(tried[name])) < len(tried[name]):
      raise UserError(f"got --sweep {each}, wanted each value once")
  found = []
  for values in itertools.product(*tried.values()):
    chosen = dict(zip(tried, values))
    best_of = chosen.pop("best_of", setting.best_of)
    sampling = dataclasses.replace(setting.sampling, **{name: _none(name, value) for name, value in chosen.items()})
    told = " ".join(f"{name}={value:g}" for name, value in zip(tried, values))
    found.append((told, Setting(sampling=sampling, best_of=best_of)))
  return tuple(found)


def _none(name: str, value: float | int) -> float | int | None:
  """What a flag's way of saying "all tokens" is to the sampler."""
  return None if (name, value) in (("top_k", 0), ("top_p", 1)) else value


def of_stage(experiment: Experiment, stage: str | None, *, inception: bool) -> tuple[str, ...]:
  """What is measured of a stage where nothing is named. Raises UserError for a stage that is not there, or CLIP's."""
  if stage is None:
    raise UserError(f"got no --metrics, wanted some of {', '.join(METRICS)}, or --stage dvae")
  objective = experiment.stage(stage).objective
  if isinstance(objective, TransformerNll):
    return TRANSFORMER
  if not isinstance(objective, FirstStage):
    raise UserError(f"got --stage {stage}, which is a CLIP: its figures are --metrics {' '.join(OF_CLIP)}")
  unmeasured = set() if isinstance(objective, DvaeElbo) else set(LIKELIHOOD)
  unmeasured |= set() if inception else set(OF_INCEPTION)
  unmeasured |= set() if objective.model.image >= WINDOW else {"ssim"}
  return tuple(name for name in DVAE if name not in unmeasured)
