"""The checks of types that all tests run under: `tests/support/array_types.py`."""

import dataclasses
from collections.abc import Callable, Iterator

import array_types
import beartype
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Array, Float, PyTree

from dalle_jax.data import scene_layout
from dalle_jax.models import layers

Row = Float[np.ndarray, " N"]


@pytest.mark.parametrize(
  ("annotation", "names"),
  [
    (int, False),
    (None, False),
    (dict[str, list[int]], False),
    (Callable[[int], str], False),
    (Row, True),
    (PyTree, True),
    (Array, False),  # JAX's own: any shape agrees
    (list[Row | None], True),
    (Callable[[Row], int], True),
    (Iterator[tuple[int, Row]], True),
    ("Later", True),
  ],
)
def test_an_annotation_that_names_arrays_is_told(annotation, names):
  assert array_types.names_arrays(annotation) is names


def checked(fn):
  return array_types.jaxtyped(fn, typechecker=beartype.beartype)


def test_shapes_are_held_against_one_another_where_there_are_arrays():
  @checked
  def add(a: Row, b: Row, scale: int = 1) -> Row:
    return scale * (a + b)

  assert add(np.zeros(3), np.ones(3)).sum() == 3
  for wrong in ((np.zeros(3), np.zeros(1)), (np.zeros(3), np.zeros(3), 1.5)):
    with pytest.raises(jaxtyping.TypeCheckError):
      add(*wrong)


def test_numbers_are_checked_where_there_are_no_arrays():
  @checked
  def half(number: float) -> int:
    return number if number > 9 else int(number / 2)

  @checked
  @dataclasses.dataclass
  class Size:
    pixels: int

  assert half(4.0) == 2
  assert Size(3).pixels == 3
  for wrong in (lambda: half(4), lambda: half(10.0), lambda: Size(3.0)):
    with pytest.raises(jaxtyping.TypeCheckError):
      wrong()


def test_what_is_wrong_is_a_type_error_either_way():
  assert issubclass(jaxtyping.TypeCheckError, TypeError)


def test_generators_are_checked_too():
  @checked
  def upto(number: int) -> Iterator[int]:
    yield from range(number)

  assert list(upto(3)) == [0, 1, 2]
  with pytest.raises(jaxtyping.TypeCheckError):
    next(upto(3.0))


def test_the_package_is_under_these_checks():
  with pytest.raises(jaxtyping.TypeCheckError):
    layers.quick_gelu(1)
  with pytest.raises(jaxtyping.TypeCheckError):
    scene_layout.sample("no generator", count=1, split="train")
