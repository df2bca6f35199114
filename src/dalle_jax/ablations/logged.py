"""What a run wrote of its training, line by line, as figures are made of it."""

import math
from collections.abc import Sequence

import numpy as np

from dalle_jax.errors import UserError
from dalle_jax.training import metrics as log
from dalle_jax.workdir import Workdir

NOT_FINITE = 0.1  # the share of lines that may be left out of a mean


def column(workdir: Workdir, stage: str, key: str) -> list[float]:
  """A training metric by line of metrics.jsonl, nan where it was not finite. Raises UserError where there is none."""
  rows = log.read(workdir.path / stage / "metrics.jsonl")
  found = [math.nan if row[key] is None else float(row[key]) for row in rows if key in row]
  if not found:
    raise UserError(f"{workdir} has no {key} in {stage}/metrics.jsonl")
  return found


def mean(lines: Sequence[float]) -> float:
  """Of the lines that are finite; nan where more than a tenth are not.

  An arm that lost its worst batches would look the better for it. What is nan is no figure, and told as such.
  """
  finite = [value for value in lines if math.isfinite(value)]
  if len(lines) - len(finite) > NOT_FINITE * len(lines):
    return math.nan
  return float(np.mean(finite))
