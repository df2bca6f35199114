"""Muon: the blocks' matrices move by their orthogonalised momentum, all else as AdamW has it.

M  = momentum of the gradient (Nesterov's)
O  = U Vᵀ  where M = U S Vᵀ, by Newton-Schulz iterations
p  = p - lr · (matrices · 0.2 √max(in, out) · O + decay · p)

The paper knows nothing of it (Jordan et al. 2024; the factor 0.2 √max(in, out), which makes the step as long as
AdamW's, is of Liu et al. 2025). It is here because small runs get further in the same time.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax
from optax import contrib

from dalle_jax.errors import UserError
from dalle_jax.training.optimizers import AdamW

# Layers whose kernels are matrices (`models/layers.py`), in their last two axes; those of "qkv" are three.
_MATRICES = ("qkv", "out", "up", "down")
_READ_AND_WRITTEN = contrib.MuonDimensionNumbers((-2,), (-1,))
_RMS = 0.2
# Of Newton-Schulz. The usual five are for a matrix divided by its Frobenius norm. Divided by its Schatten-4 norm, which
# costs nothing more, n equal singular values start n^(1/4) times nearer to 1: at 128, what one iteration gains (3.4).
_ITERATIONS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(AdamW):
  """AdamW with another direction for the matrices of attention and MLP.

  momentum: of the matrices; matrices: what their direction is multiplied by.
  """

  momentum: float = 0.95
  matrices: float = 1.0

  def __post_init__(self) -> None:
    super().__post_init__()
    if not 0 <= self.momentum < 1:
      raise UserError(f"got momentum={self.momentum}, wanted 0 <= momentum < 1: change the optimizer")
    if not 0 < self.matrices < float("inf"):
      raise UserError(f"got matrices={self.matrices}, wanted a positive number: change the optimizer")

  def direction(self) -> optax.GradientTransformation:
    """What `build` scales by the rate, before decay."""
    muon = contrib.scale_by_muon(
      beta=self.momentum, ns_steps=_ITERATIONS, preconditioning="schatten", weight_dimension_numbers=_dimensions
    )
    adam = super().direction()

    def init(params: Any) -> _State:
      matrices, others, _ = _split(params)
      return _State(muon.init(matrices), adam.init(others))

    def update(grads: Any, state: _State, params: Any = None) -> tuple[Any, _State]:
      del params
      matrices, others, join = _split(grads)
      matrices, of_muon = muon.update(matrices, state.muon)
      others, of_adam = adam.update(others, state.adam)
      matrices = {path: self.matrices * _RMS * _length(o) * o for path, o in matrices.items()}
      return join(matrices | others), _State(of_muon, of_adam)

    return optax.GradientTransformation(init, update)


class _State(NamedTuple):
  """Of the matrices and of all else, each a flat dictionary by path."""

  muon: Any
  adam: Any


def _split(tree: Any) -> tuple[dict[str, Any], dict[str, Any], Any]:
  """The matrices and the other leaves by path, boxes and all, and what makes the tree of both again."""
  found, shape = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: not isinstance(node, Mapping))
  leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in found}
  matrices = {path: leaf for path, leaf in leaves.items() if is_matrix(path)}
  others = {path: leaf for path, leaf in leaves.items() if path not in matrices}
  return matrices, others, lambda new: shape.unflatten([new[path] for path in leaves])


def is_matrix(path: str) -> bool:
  """Whether a parameter's path, such as periods/block_0/mlp/up/kernel, is that of one of the blocks' matrices."""
  *_, layer, leaf = ["", *path.split("/")]
  return leaf == "kernel" and layer in _MATRICES


def _dimensions(matrices: Mapping[str, Any]) -> dict[str, contrib.MuonDimensionNumbers]:
  return dict.fromkeys(matrices, _READ_AND_WRITTEN)


def _length(update: Any) -> float:
  """The square root of the larger of the matrix's two sizes."""
  return math.sqrt(max(update.shape[-2:]))
