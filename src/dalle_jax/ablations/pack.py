"""A pack: one claim, the runs that test it, the figure that decides, and what the paper says of it.

An arm is the base experiment with the fields replaced that it names. Arms whose experiments are equal share one run, so
arms may differ in what is measured of it alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dalle_jax.data.prepared import Prepared
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment
from dalle_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
  """How large the runs of a pack are.

  name: "smoke", "tiny", "small" or "paper"; data: what `dalle data prepare` wrote, for the base to read.
  """

  name: str
  data: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
  """A figure of a finished run.

  measure: of the run's workdir, the arm's setting and the run's seed, in `unit`; smallest: the least difference between
  two arms that would matter; lower: whether less is better; check: raises UserError, in one line, for data that lacks
  what is measured, before anything is trained.
  """

  name: str
  unit: str
  smallest: float
  measure: Callable[[Workdir, Any, int], float]
  lower: bool = True
  check: Callable[[Prepared], None] = lambda prepared: None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
  """A picture of how the runs went.

  draw: given a finished run of each arm, by its name, and the file to write, NAME.png in the pack's folder.
  """

  name: str
  draw: Callable[[Mapping[str, Workdir], Path], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
  """One way of doing it.

  change: the experiment of this arm, made from the base by `dataclasses.replace`; fields: the dotted fields, or the
  beginnings of them, in which it may differ from the base; setting: what the metrics are told of this arm.
  """

  name: str
  change: Callable[[Experiment], Experiment] = lambda base: base
  fields: tuple[str, ...] = ()
  setting: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Better:
  """The claim that one arm is better than another by the pack's metric, by its smallest difference or more."""

  arm: str
  than: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Same:
  """The claim that two arms differ by less than the metric's smallest difference."""

  arm: str
  other: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
  """What the paper says: our words, the rows of its ablations and claims, and numbers only where it has some."""

  rows: tuple[int, ...]
  says: str
  where: str
  numbers: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pack:
  """What `experiments/ablations/NAME.py` returns from `pack()`.

  base: the experiment at a scale; stage: the one that each arm trains, the stages before it being trained once for all
  arms and seeds; arms: the first is the paper's way; control: an arm known to be worse than the first, which has to
  come out as such; claims: what is judged; also: figures that are shown beside the deciding one; plots: pictures beside
  that of the figures.
  """

  title: str
  group: str
  paper: Paper
  base: Callable[[Scale], Experiment]
  stage: str
  arms: tuple[Arm, ...]
  control: str
  metric: Metric
  claims: tuple[Better | Same, ...]
  also: tuple[Metric, ...] = ()
  plots: tuple[Plot, ...] = ()

  def __post_init__(self) -> None:
    names = [arm.name for arm in self.arms]
    if len(names) < 2 or len(set(names)) < len(names):
      raise UserError(f"the pack {self.title!r} has arms {', '.join(names)}: two or more of different names are wanted")
    told = {self.control} | {name for claim in self.claims for name in dataclasses.astuple(claim)}
    if odd := sorted(told - set(names)):
      raise UserError(f"the pack {self.title!r} speaks of arms that it does not have: {', '.join(odd)}")
    if not self.claims:
      raise UserError(f"the pack {self.title!r} has no claims: one or more of Better and Same are wanted")

  def arm(self, name: str) -> Arm:
    """The arm of that name. Raises UserError naming those there are."""
    for arm in self.arms:
      if arm.name == name:
        return arm
    raise UserError(f"no arm {name!r}; there are {', '.join(arm.name for arm in self.arms)}")
