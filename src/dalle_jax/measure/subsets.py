"""All examples, and those that an exclusion list leaves: both are told, as the paper draws a second, dashed curve.

N examples.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from dalle_jax.errors import UserError
from dalle_jax.evaluation.metrics.figures import Figure
from dalle_jax.measure.run import Run

Mark = Callable[[Figure], Figure]


def subsets(
  run: Run, rows_N: Int[np.ndarray, " N"] | None = None
) -> Iterator[tuple[Bool[np.ndarray, " N"], Mark, Mapping[str, Any]]]:
  """Which examples, how a figure of them is marked, and the fact for its protocol.

  rows_N: the examples' rows in the split; all of it if None. Raises UserError where the list leaves none.
  """
  rows_N = np.arange(len(run)) if rows_N is None else rows_N
  yield np.ones(len(rows_N), bool), lambda figure: figure, {"exclusion": None}
  if run.keep_N is None:
    return
  keep_N = run.keep_N[rows_N]
  left = int((~keep_N).sum())
  if not keep_N.any():
    raise UserError(f"--exclude {run.asked.exclude} leaves none of the {len(rows_N)} pictures of {run.split}")
  mark = lambda figure: dataclasses.replace(figure, without_list=True, excluded=left)  # noqa: E731
  yield keep_N, mark, {"exclusion": run.exclusion}
