"""What a person asks to be measured, and what of it can be."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.first_stage import FirstStage
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.choose import SamplingConfig

DVAE = ("nll", "elb", "psnr", "ssim", "codes", "rfid")
TRANSFORMER = ("loss",)
SAMPLES = ("fid", "kid", "is", "fd_clip", "clip_score", "r_precision", "composition")
METRICS = (*DVAE, *TRANSFORMER, *SAMPLES)
LIKELIHOOD = ("nll", "elb")  # of these a dVAE that was trained by squared error knows nothing
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """metrics: of METRICS; stage: whose, where a run has several of a kind; pictures: captions that are drawn, at most.

  split: None takes the one that was trained on least; blur: radii at which drawn and real pictures are looked at;
  settings: ways to draw, each with a name ("" where there is one); rank: what chooses the best of several samples;
  inception, clip: converted weights ("" for the run's own CLIP); resize: how pictures get to Inception's size;
  references: statistics of reference pictures, of the split itself where there is none; exclude: a list of pictures
  that are too like training ones.
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
    if not self.blur or any(radius < 0 for radius in self.blur) or len(set(self.blur)) < len(self.blur):
      raise UserError(f"got --blur {' '.join(f'{r:g}' for r in self.blur)}, wanted radii of 0 or more, each once")
    if self.rank and all(setting.best_of == 1 for _, setting in self.settings):
      raise UserError(f"got --rank {self.rank} with one sample a caption: add --best-of 32, or leave it out")

  def of(self, group: Sequence[str]) -> list[str]:
    """The metrics of this group that are asked for, in the group's order."""
    return [name for name in group if name in self.metrics]


def sweep(given: Sequence[str], setting: Setting) -> tuple[tuple[str, Setting], ...]:
  """All combinations of what is to be tried, such as ("guidance=1,3", "temperature=0.85,1"), each with its name.

  What is not tried is as in `setting`. Raises UserError for a name that is not one of the sampling's, or no number.
  """
  tried: dict[str, list[Any]] = {}
  for each in given:
    name, _, values = each.partition("=")
    if name not in KINDS or name in tried or not values:
      raise UserError(f"got --sweep {each}, wanted each of {', '.join(KINDS)} at most once, as in guidance=1,3,5")
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
    sampling = dataclasses.replace(
      setting.sampling, **{name: v or None if name[:3] == "top" else v for name, v in chosen.items()}
    )
    told = " ".join(f"{name}={value:g}" for name, value in zip(tried, values))
    found.append((told, Setting(sampling=sampling, best_of=best_of)))
  return tuple(found)


def of_stage(experiment: Experiment, stage: str | None, *, inception: bool) -> tuple[str, ...]:
  """What is measured of a stage where nothing is named. Raises UserError for a stage that is not there, or CLIP's."""
  if stage is None:
    raise UserError(f"got no --metrics, wanted some of {', '.join(METRICS)}, or --stage dvae")
  objective = experiment.stage(stage).objective
  if isinstance(objective, TransformerNll):
    return TRANSFORMER
  if not isinstance(objective, FirstStage):
    raise UserError(f"got --stage {stage}, which is a CLIP: its figures are --metrics {' '.join(OF_CLIP)}")
  likelihood = isinstance(objective, DvaeElbo)
  return tuple(
    name for name in DVAE if (likelihood or name not in LIKELIHOOD) and (inception or name not in OF_INCEPTION)
  )
