"""What a finished run is measured to be: the figure that decides, and those beside it that there are."""

import math
from typing import Any

from dalle_jax.ablations.figures import Figures
from dalle_jax.ablations.pack import Metric, Pack
from dalle_jax.errors import TrainingPreempted, UserError
from dalle_jax.workdir import Workdir


def measure(pack: Pack, workdir: Workdir, setting: Any, seed: int) -> Figures:
  """A figure beside the deciding one that can't be had, or is not finite, is left out with its reason.

  Raises what the deciding metric raises, and UserError where it is not finite.
  """
  values, lacking, again = {pack.metric.name: _finite(pack.metric, workdir, setting, seed)}, {}, False
  for metric in pack.also:
    try:
      values[metric.name] = _finite(metric, workdir, setting, seed)
    except TrainingPreempted:
      raise
    except Exception as error:
      lacking[metric.name] = why(error)
      again = again or not isinstance(error, UserError)  # which the run and its data are the reason of
  return Figures(values=values, lacking=lacking, again=again)


def why(error: Exception) -> str:
  """An error in one line, with its kind where it is none that the project words itself."""
  said = " ".join(str(error).split())[:300] or type(error).__name__
  return said if hasattr(error, "exit_code") else f"{type(error).__name__}: {said}"


def _finite(metric: Metric, workdir: Workdir, setting: Any, seed: int) -> float:
  value = float(metric.measure(workdir, setting, seed))
  if not math.isfinite(value):
    raise UserError(f"{metric.name} is {value}")
  return value
