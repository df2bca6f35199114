import numpy as np
import pytest

from dalle_jax.evaluation import attention_sheet
from dalle_jax.evaluation.attention_sheet import LABEL, LINE, MARGIN, TILE

PLACES = [[0], [1, 2]]  # two words, the second of two tokens


def weights(layers, positions=4, text=6):
  """Rows of less than 1, as the picture has the rest."""
  rng = np.random.default_rng(0)
  return rng.dirichlet(np.ones(text + 3), (layers, positions))[..., :text]


def test_words_take_the_positions_after_the_start_and_all_shares_add_up():
  weights_ANT = weights(3)
  mean, *layers = attention_sheet.rows(weights_ANT, PLACES, ("row", "column", "row"))
  for weights_NT, row in zip(weights_ANT, layers, strict=True):
    np.testing.assert_allclose(row.by_word_NW[:, 0], weights_NT[:, 1])
    np.testing.assert_allclose(row.by_word_NW[:, 1], weights_NT[:, 2] + weights_NT[:, 3])
    assert row.start == pytest.approx(weights_NT[:, 0].mean())
    assert row.rest == pytest.approx(weights_NT[:, 4:].sum(1).mean())
    assert row.picture == pytest.approx(1 - weights_NT.sum(1).mean())
  np.testing.assert_allclose(mean.by_word_NW, np.mean([row.by_word_NW for row in layers], axis=0))
  assert mean.rest == pytest.approx(np.mean([row.rest for row in layers]))
  assert [row.name for row in layers][1] == "layer 2 of 3, column"


@pytest.mark.parametrize(
  ("layers", "shown"), [(1, [1]), (2, [1, 2]), (8, [*range(1, 9)]), (64, [1, 10, 19, 28, 37, 46, 55, 64])]
)
def test_of_many_layers_some_are_shown_from_the_first_to_the_last(layers, shown):
  rows = attention_sheet.rows(weights(layers), PLACES, ("row",) * layers)
  names = [row.name for row in rows if row.name.startswith("layer")]
  assert names == [f"layer {number} of {layers}, row" for number in shown]
  assert (rows[0].name == f"mean of {layers} layers") == (layers > 1)


def test_the_hottest_place_stands_in_its_word_s_column_and_its_layer_s_row():
  by_word_NW = np.full((4, 13), 0.001)
  by_word_NW[3, 12] = 0.5
  cold = np.full((4, 13), 0.001)
  rows = [
    attention_sheet.Row(name=name, by_word_NW=given, start=0.1, rest=0.2)
    for name, given in (("one", cold), ("two", by_word_NW))
  ]
  image = np.full((32, 32, 3), 200, np.uint8)
  found = np.asarray(attention_sheet.sheet(image, [f"word{i}" for i in range(13)], rows), int)
  # Thirteen words go in bands of seven and six: the last one is the sixth of the second band, its row the second.
  top = TILE + 2 * MARGIN + (2 * LINE + 2 * (TILE + LINE + MARGIN)) + LINE + MARGIN // 2 + (TILE + LINE + MARGIN)
  left = LABEL + 5 * (TILE + MARGIN)
  tile = found[top : top + TILE, left : left + TILE]
  red = tile[..., 0] - tile[..., 2]
  assert red[TILE // 2 :, TILE // 2 :].min() > 80
  assert red[: TILE // 2].max() < 10
  other = found[top : top + TILE, left - TILE - MARGIN : left - MARGIN]
  assert (other[..., 0] - other[..., 2]).max() < 10


def test_a_map_of_no_heat_is_the_picture_in_pale_grey():
  image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
  none = np.asarray(attention_sheet.overlay(image, np.zeros(4)), int)
  assert (none[..., 0] == none[..., 2]).all()
  assert none.min() >= 114
  assert np.ptp(none) > 50
