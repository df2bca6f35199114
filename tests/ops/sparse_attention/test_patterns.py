"""Patterns against the paper's figure 11, its published counts, and geometry worked out cell by cell."""

import dataclasses

import jax
import numpy as np
import pytest

from dalle_jax.errors import UserError
from dalle_jax.ops.sparse_attention import Pattern
from dalle_jax.ops.sparse_attention.patterns import KINDS


def image_part(pattern):
  return pattern.mask()[pattern.image_start :, pattern.image_start :][: pattern.image, : pattern.image]


def offsets(pattern):
  """All distances between a query and a key of the image that it sees."""
  query, key = np.nonzero(image_part(pattern))
  return set((query - key).tolist())


@pytest.mark.parametrize(
  ("kind", "expected"),
  [
    ("row", {0, 1, 2, 3, 4}),
    ("column", {0, 4, 8, 12}),
    ("conv", {0, 1, 3, 4, 5, 7}),
    ("full", set(range(16))),
  ],
)
def test_the_masks_of_figure_11_come_back(kind, expected):
  pattern = Pattern(text=6, grid=4, kind=kind, kernel=3)
  assert offsets(pattern) == expected
  for query in range(16):  # each query sees every one of these offsets that lies in the image
    seen = {query - key for key in np.nonzero(image_part(pattern)[query])[0].tolist()}
    assert seen == {d for d in expected if d <= query}


def test_a_row_window_crosses_the_ends_of_rows_and_a_row_alone_does_not():
  third_row = {kind: np.nonzero(image_part(Pattern(text=0, grid=4, kind=kind))[9])[0] for kind in ("row", "row_only")}
  assert third_row["row"].tolist() == [5, 6, 7, 8, 9]
  assert third_row["row_only"].tolist() == [8, 9]


@pytest.mark.parametrize(
  ("kind", "mean"), [("row", 32.5), ("row_only", 16.5), ("column", 16.5), ("conv", 59.9), ("full", 512.5)]
)
def test_an_image_token_sees_as_many_image_tokens_as_published(kind, mean):
  keys = image_part(Pattern(text=256, grid=32, kind=kind)).sum(axis=1)
  assert keys.mean() == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize(
  ("kind", "pairs"),
  [
    ("full", 819_840),
    ("row", 328_304),
    ("row_only", 311_936),
    ("column", 311_936),
    ("conv", 356_384),
    ("conv_clamped", 347_394),
    ("conv_corner", 383_249),
  ],
)
def test_the_live_pairs_at_the_papers_size_are_the_published_ones(kind, pairs):
  mask = Pattern(text=256, grid=32, kind=kind).mask()
  assert mask.sum() == pairs
  assert mask[:256, :256].sum() == 32_896
  assert mask[256:, :256].sum() == 262_144


def cells_seen(kind, grid, kernel, row, column):
  """The cells that a cell sees, listed one by one."""
  half, back = kernel // 2, range(kernel)
  if kind == "row_only":
    return {(row, c) for c in range(column + 1)}
  if kind == "column":
    return {(r, column) for r in range(row + 1)}
  if kind == "conv_corner":
    cells = {(row - y, column - x) for y in back for x in back}
  if kind == "conv_clamped":
    above = {(row - y, column + x) for y in range(1, half + 1) for x in range(-half, half + 1)}
    cells = above | {(row, column - x) for x in range(half + 1)}
  return {(r, c) for r, c in cells if 0 <= r < grid and 0 <= c < grid}


@pytest.mark.parametrize("kind", ["row_only", "column", "conv_corner", "conv_clamped"])
@pytest.mark.parametrize(("grid", "kernel"), [(6, 3), (7, 5), (4, 9)])
def test_each_cell_sees_the_cells_that_geometry_says(kind, grid, kernel):
  seen = image_part(Pattern(text=2, grid=grid, kind=kind, kernel=kernel))
  for query in range(grid**2):
    cells = {divmod(key, grid) for key in np.nonzero(seen[query])[0].tolist()}
    assert cells == cells_seen(kind, grid, kernel, *divmod(query, grid))


@pytest.mark.parametrize(("grid", "kernel"), [(6, 3), (7, 5), (12, 11)])
def test_a_convolution_sees_bands_whose_columns_wrap_around(grid, kernel):
  half = kernel // 2
  bands = {band * grid + across % grid for band in range(half + 1) for across in range(-half, half + 1)}
  assert offsets(Pattern(text=2, grid=grid, kind="conv", kernel=kernel)) == {d for d in bands if d < grid**2}


@pytest.mark.parametrize("kind", KINDS)
def test_image_tokens_see_all_text_and_text_looks_back(kind):
  mask = Pattern(text=5, grid=4, kind=kind, kernel=3).mask()
  assert mask.shape == (21, 21)
  np.testing.assert_array_equal(mask[:5, :5], np.tri(5, dtype=bool))
  assert not mask[:5, 5:].any()
  assert mask[5:, :5].all()
  assert not np.triu(mask, 1).any()
  assert mask.diagonal().all()


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_image_first_text_sees_all_of_it_and_it_sees_no_text(kind):
  first, last = (Pattern(text=5, grid=4, kind=kind, kernel=3, order=o) for o in ("text_first", "image_first"))
  assert np.array_equal(first.mask(), last.mask()) == (kind == "full")  # causal is causal
  assert last.image_start == 0
  np.testing.assert_array_equal(last.mask()[:16, :16], first.mask()[5:, 5:])
  assert not last.mask()[:16, 16:].any()
  assert last.mask()[16:, :16].all()
  np.testing.assert_array_equal(last.mask()[16:, 16:], np.tri(5, dtype=bool))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("grid", "kernel"), [(3, 7), (6, 3), (9, 5)])
def test_the_reach_is_the_rows_between_a_query_and_its_furthest_key(kind, grid, kernel):
  pattern = Pattern(text=1, grid=grid, kind=kind, kernel=kernel)
  query, key = np.nonzero(image_part(pattern))
  assert (query // grid - key // grid).max() + 1 == pattern.reach


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_is_the_same_inside_a_compiled_function(kind):
  pattern = Pattern(text=3, grid=5, kind=kind, kernel=3)
  q, k = np.indices((pattern.length, pattern.length))
  np.testing.assert_array_equal(jax.jit(pattern.allowed)(q, k), pattern.mask())


def test_a_mask_that_is_written_to_does_not_change_the_pattern():
  pattern = Pattern(text=2, grid=3)
  pattern.mask()[:] = True
  assert not pattern.mask().all()


def test_patterns_are_equal_by_value_and_may_be_keys():
  assert len({Pattern(text=2, grid=3), Pattern(text=2, grid=3), Pattern(text=2, grid=3, kind="row")}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    Pattern(text=2, grid=3).grid = 4


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"kind": "rows"}, "kind is 'rows': one of full, row, column, conv"),
    ({"order": "text_last"}, "order is 'text_last'"),
    ({"softmax": "none"}, "softmax is 'none'"),
    ({"text": -1}, "-1 text positions"),
    ({"grid": 0}, "0x0 grid"),
    ({"kind": "conv", "kernel": 4}, "kernel is 4: an odd number"),
    ({"kind": "conv_corner", "kernel": 0}, "kernel is 0: an odd number"),
    ({"kind": "conv_clamped", "kernel": -3}, "kernel is -3: an odd number"),
  ],
)
def test_a_pattern_that_does_not_exist_is_refused_in_one_line(wrong, message):
  with pytest.raises(UserError, match=message) as caught:
    Pattern(**({"text": 2, "grid": 3} | wrong))
  assert "\n" not in str(caught.value)


def test_only_a_convolutions_kernel_must_be_odd():
  assert Pattern(text=2, grid=3, kind="row", kernel=4).mask().any()
