"""The kernels' schedule of tiles against the pattern's mask, which it must be another way to write."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalle_jax.ops.sparse_attention import Pattern, tiles
from dalle_jax.ops.sparse_attention.patterns import KINDS


def seen_by_tiles(pattern, widest):
  """bool [L, L] in raster order: what the tiles' keys and their masks let each position see."""
  plan = tiles.layout(pattern)
  mask, absent = tiles.mask(plan), tiles.absent(plan)
  scores = np.full((plan.length, plan.length), -np.inf)
  for tile in tiles.tiles(plan, widest):
    rows = slice(tile.start, tile.start + tiles.TILE)
    for keys in tile.keys:
      width = keys.stop - keys.start
      assert 0 < width <= widest
      assert np.isinf(scores[rows, keys.start : keys.stop]).all()  # no key is read twice
      bias = 0 if keys.bias is None else mask[:, keys.bias : keys.bias + width]
      bias = bias + (absent[keys.start : keys.stop] if keys.stop <= plan.text else 0)
      scores[rows, keys.start : keys.stop] = bias
  slots = tiles.slots(plan)
  assert len(set(slots)) == pattern.length
  return scores[slots][:, slots] == 0


@settings(max_examples=60, deadline=None)
@given(
  st.integers(0, 300),
  st.integers(1, 24),
  st.sampled_from(KINDS),
  st.sampled_from([1, 3, 5, 11]),
  st.sampled_from([128, 256, 384]),
)
def test_tiles_let_each_position_see_what_the_pattern_says(text, grid, kind, kernel, widest):
  pattern = Pattern(text=text, grid=grid, kind=kind, kernel=kernel)
  np.testing.assert_array_equal(seen_by_tiles(pattern, widest), pattern.mask())


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_papers_size_every_position_is_its_own_slot_but_in_columns(kind):
  plan = tiles.layout(Pattern(text=256, grid=32, kind=kind))
  assert plan.in_place == (kind != "column")
  assert plan.length == 1280
  np.testing.assert_array_equal(seen_by_tiles(plan.pattern, 256), plan.pattern.mask())


def pairs(kind, grid=32):
  plan = tiles.layout(Pattern(text=256, grid=grid, kind=kind))
  return tiles.TILE * sum(keys.stop - keys.start for tile in tiles.tiles(plan, 256) for keys in tile.keys)


def test_the_work_is_little_more_than_what_is_seen():
  # Of the pairs that causal attention sees; performance grows with what is read.
  causal = 1280 * 1281 // 2
  assert {kind: round(pairs(kind) / causal, 3) for kind in ("row", "column", "conv", "full")} == {
    "row": 0.679,
    "column": 0.54,
    "conv": 0.799,
    "full": 1.099,
  }
  assert pairs("row", 64) < pairs("full", 64) / 4


def test_a_mask_that_leaks_is_noticed(monkeypatch):
  pattern = Pattern(text=16, grid=16, kind="row")
  mask = tiles.mask(tiles.layout(pattern))
  monkeypatch.setattr(tiles, "mask", lambda plan: np.maximum(mask, np.roll(mask, 1, axis=1)))
  assert (seen_by_tiles(pattern, 256) != pattern.mask()).any()


def test_rows_longer_than_a_tile_are_refused():
  with pytest.raises(ValueError, match="a row of 129 tokens does not fit a tile of 128"):
    tiles.layout(Pattern(text=0, grid=129, kind="row"))
