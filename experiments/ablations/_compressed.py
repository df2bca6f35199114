"""What the packs on PowerSGD start from: the transformer, its gradients compressed as the paper has it.

On one device there is one replica: what is applied is the factors of its own gradient, and what they leave of it comes
with the next. That is all of PowerSGD but the sum over machines, which is linear. (`tests/training/test_compression.py`
has that on simulated devices.)
"""

import dataclasses
from typing import Any

import bases

from dalle_jax.ablations import Arm, Scale
from dalle_jax.experiment import Experiment
from dalle_jax.training.powersgd import PowerSGD

REDUCE = "stages.transformer.reduce"
PAPER_RANK = 896  # of 3,968 (Table 2)


def transformer(scale: Scale) -> Experiment:
  """With PowerSGD of the paper's rank, or its share of the width."""
  base = bases.transformer(scale)
  width = base.stage("transformer").objective.model.dim
  rank = PAPER_RANK if scale.name == "paper" else max(8, width // 4)
  return bases.changed(base, "transformer", reduce=PowerSGD(rank=rank))


def arm(name: str, *fields: str, **values: Any) -> Arm:
  """One that gives PowerSGD's fields other values; fields: those, or parts of them, that then differ."""
  change = lambda base: _with(base, dataclasses.replace(base.stage("transformer").reduce, **values))  # noqa: E731
  return Arm(name=name, change=change, fields=tuple(f"{REDUCE}.{field}" for field in fields or values))


def less(name: str, by: int) -> Arm:
  """The rank, divided."""

  def change(base: Experiment) -> Experiment:
    reduce = base.stage("transformer").reduce
    return _with(base, dataclasses.replace(reduce, rank=max(1, reduce.rank // by)))

  return Arm(name=name, change=change, fields=(f"{REDUCE}.rank",))


def uncompressed(name: str) -> Arm:
  """Gradients as they are."""
  return Arm(name=name, change=lambda base: _with(base, None), fields=(REDUCE,))


def _with(base: Experiment, reduce: PowerSGD | None) -> Experiment:
  return bases.changed(base, "transformer", reduce=reduce)
