"""Held-out losses: an objective's own metrics, averaged over a whole split.

B batch, T text positions.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from dalle_jax.sampling.devices import Devices, scope


@runtime_checkable
class Objective(Protocol):
  """What an objective must offer to be measured."""

  def loss(self, params: PyTree, frozen: PyTree, batch: Any, key: Any, step: Any) -> Any: ...


def held_out(
  objective: Objective,
  params: PyTree,
  frozen: PyTree,
  batches: Iterable[Mapping[str, np.ndarray]],
  *,
  step: int,
  seed: int = 0,
  devices: Devices = Devices(),
) -> dict[str, float]:
  """The mean over all examples of every metric of the objective's loss, with schedules as they stand at `step`.

  A mean over pictures weighs each batch by its examples; `loss_text_no_pads` by its tokens that are no pads, so that it
  does not depend on how the split falls into batches. A contrastive loss does depend on it: give it equal batches.
  devices: where the weights lie, and batches are split over. Raises ValueError when there is no batch.
  """
  sums: dict[str, float] = {}
  weights: dict[str, float] = {}
  for i, batch in enumerate(batches):
    key = jax.random.fold_in(jax.random.key(seed), i)
    rows = len(next(iter(batch.values())))
    placed = {name: devices.put(value) for name, value in batch.items()}
    over = (devices.mesh, devices.rules_for(rows))
    metrics = jax.device_get(_metrics(objective, params, frozen, placed, key, jnp.int32(step), *over))
    for name, value in metrics.items():
      weight = _weight(objective, name, batch)
      sums[name] = sums.get(name, 0.0) + float(value) * weight
      weights[name] = weights.get(name, 0.0) + weight
  if not sums:
    raise ValueError("there is no batch to measure the loss on")
  return {name: total / weights[name] for name, total in sums.items()}


@functools.partial(jax.jit, static_argnames=("objective", "mesh", "rules"))
def _metrics(objective, params, frozen, batch, key, step, mesh, rules):
  with scope(mesh, rules):
    return objective.loss(params, frozen, batch, key, step)[1]


def _weight(objective: Any, name: str, batch: Mapping[str, np.ndarray]) -> float:
  if name == "loss_text_no_pads":
    return float((np.asarray(batch["text"]) < objective.model.text_vocab).sum())
  return float(len(next(iter(batch.values()))))
