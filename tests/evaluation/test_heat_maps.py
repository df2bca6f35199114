"""The map of every picture with every caption: whole ticks, and rings that are seen on fields of any colour."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dalle_jax.evaluation import heat_maps


def drawn(scores_PC, right_PC):
  figure = heat_maps.matching_map(np.asarray(scores_PC, float), np.asarray(right_PC, bool))
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return figure.axes[0], np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (4, 7)])
def test_pictures_and_captions_are_counted_in_whole_numbers(shape):
  axes, _ = drawn(np.ones(shape), np.zeros(shape))
  for ticks in (axes.get_xticks(), axes.get_yticks()):
    assert len(ticks) > 0
    assert (ticks == np.round(ticks)).all()


@pytest.mark.parametrize("score", [-1.0, 0.0, 1.0])  # dark red, white, dark blue
def test_a_ring_stands_out_from_its_field(score):
  scores = [[score, 1.0]]  # the other field makes the scale
  axes, without = drawn(scores, [[False, False]])
  _, ringed = drawn(scores, [[True, False]])
  x, y = axes.transData.transform((0, 0)).round().astype(int)
  around = (slice(len(ringed) - y - 12, len(ringed) - y + 12), slice(x - 12, x + 12))
  field, ring = without[around].mean(-1), ringed[around].mean(-1)
  assert np.ptp(field) < 2
  assert np.abs(ring - field).max() > 120
  assert (np.abs(ring - field) > 60).sum() > 20
