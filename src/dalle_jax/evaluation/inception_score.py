"""The Inception Score (Salimans et al. 2016): exp of the mean KL divergence of p(class | picture) from p(class).

As torch-fidelity computes it: logits without the last layer's bias, pictures shuffled by NumPy's legacy generator
(that of published figures) and split into ten parts that have a score each. Told are the scores' mean and spread, the
latter divided by the number of parts, not by one less.

N pictures, K classes, P parts.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from dalle_jax.errors import UserError

SEED = 2020


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """mean and std over the parts; 1 is the least there can be, the number of classes the most."""

  mean: float
  std: float
  parts: int
  pictures: int


def score(logits_NK: Float[np.ndarray, "N K"], parts: int = 10, seed: int = SEED) -> Score:
  """Raises UserError for fewer pictures than parts."""
  pictures = len(logits_NK)
  if parts < 1 or pictures < parts:
    raise UserError(f"an Inception Score in {parts} parts wants as many pictures, got {pictures}")
  order_N = np.random.RandomState(seed).permutation(pictures)
  log_p_NK = _log_softmax(logits_NK[order_N].astype(np.float64))
  ends = [part * pictures // parts for part in range(parts + 1)]
  scores_P = [_of_part(log_p_NK[first:last]) for first, last in itertools.pairwise(ends)]
  return Score(mean=float(np.mean(scores_P)), std=float(np.std(scores_P)), parts=parts, pictures=pictures)


def _of_part(log_p_NK: np.ndarray) -> float:
  log_q_1K = _log_sum(log_p_NK, axis=0) - np.log(len(log_p_NK))
  return float(np.exp((np.exp(log_p_NK) * (log_p_NK - log_q_1K)).sum(axis=1).mean()))


def _log_softmax(logits_NK: np.ndarray) -> np.ndarray:
  return logits_NK - _log_sum(logits_NK, axis=1)


def _log_sum(x_NK: np.ndarray, axis: int) -> np.ndarray:
  most = x_NK.max(axis=axis, keepdims=True)
  return most + np.log(np.exp(x_NK - most).sum(axis=axis, keepdims=True))
