"""Floating-point operations of models' products, for one example: what utilisation is held against.

A step counts three times the forward pass: once forward, twice for the gradient. What is computed again in the
backward pass is not counted, nor are frozen models.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax

from dalle_jax.models import transformer


@functools.lru_cache(maxsize=16)
def of_transformer(cfg: transformer.Config) -> int:
  """Of a training example: 6 N a token for the blocks' matrices and the heads, and the pairs that attention sees."""
  matrices = 12 * cfg.layers * cfg.dim**2 * (cfg.text + cfg.grid**2)
  heads = cfg.dim * (cfg.text * cfg.text_classes + cfg.grid**2 * cfg.image_vocab)
  kinds = cfg.kinds()
  pairs = sum(kinds.count(kind) * int(cfg.pattern(kind).mask().sum()) for kind in set(kinds))
  return 3 * (2 * (matrices + heads) + 4 * cfg.dim * pairs)


@functools.lru_cache(maxsize=16)
def of_drawing(cfg: transformer.Config) -> int:
  """Of drawing a picture with caches: forward alone, of its image tokens; its caption is read once for all samples."""
  matrices = (12 * cfg.layers * cfg.dim**2 + cfg.dim * cfg.image_vocab) * cfg.grid**2
  kinds = cfg.kinds()
  pairs = sum(kinds.count(kind) * int(cfg.pattern(kind).mask()[cfg.text :].sum()) for kind in set(kinds))
  return 2 * matrices + 4 * cfg.dim * pairs


def of_products(function: Callable[..., Any], *shapes: Any) -> int:
  """Of a function's matrix products and convolutions, as often as they run, on arguments of these shapes."""
  return _of_jaxpr(jax.make_jaxpr(function)(*shapes).jaxpr)


def _of_jaxpr(jaxpr: Any) -> int:
  return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out = params["dimension_numbers"].rhs_spec[0]
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[out]
  inner = [j for value in params.values() for j in jax.tree.leaves(value, is_leaf=_is_jaxpr) if _is_jaxpr(j)]
  times = params["length"] if name == "scan" else 1
  return times * sum(_of_jaxpr(getattr(each, "jaxpr", each)) for each in inner)


def _is_jaxpr(value: Any) -> bool:
  return hasattr(value, "eqns") or hasattr(value, "jaxpr")
