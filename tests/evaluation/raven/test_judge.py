"""The judge of a completed corner: what is right, what a dVAE may do to it, and what does not pass."""

import dataclasses
import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dalle_jax.data.raven import drawing, items, panels, rules
from dalle_jax.data.raven.items import Item
from dalle_jax.evaluation.raven.judge import CLOSE, judge

LAYOUTS = {"48": items.Layout(image=48, grid=12), "256": items.Layout(image=256, grid=32)}


def cases(count=3):
  """Items of every kind, plain and inverted."""
  found = []
  for layout in LAYOUTS.values():
    for kind in rules.KINDS:
      rng = random.Random(kind.kind)
      for _ in range(count):
        item = items.draw(kind, rng, layout)
        found += [item, dataclasses.replace(item, inverted=True)]
  return found


CASES = cases()


def true(item: Item):
  return np.array(item.cut(item.pixels()))


def test_the_true_panel_is_right_at_distance_0():
  for item in CASES:
    verdict = judge(true(item), item)
    assert verdict.right
    assert verdict.distance == 0
    assert verdict.read == item.answer


def test_an_empty_corner_is_wrong_at_distance_1_and_the_inverse_is_further():
  for item in CASES:
    empty, inverse = judge(np.array(item.cut(item.unsolved())), item), judge(255 - true(item), item)
    assert (empty.right, inverse.right) == (False, False)
    assert empty.distance == pytest.approx(1)
    assert inverse.distance > 1


def test_another_panel_of_the_alphabet_is_wrong_and_is_read_as_what_it_is():
  rng = random.Random(0)
  for item in CASES:
    other = rng.choice([each for each in panels.alphabet(item.answer) if each != item.answer])
    verdict = judge(np.array(drawing.panel(other, item.layout.pixels, item.inverted)), item)
    assert not verdict.right
    assert verdict.read == other


def test_a_panel_in_the_wrong_place_is_wrong():
  for item in CASES:
    place = item.layout.pixels // 4
    for shift in ((place, 0), (0, place), (-place, -place)):
      assert not judge(np.roll(true(item), shift, axis=(0, 1)), item).right


def test_blur_and_noise_as_a_dvae_makes_them_are_survived():
  rng = np.random.default_rng(0)
  for item in CASES:
    blurred = Image.fromarray(true(item)).filter(ImageFilter.GaussianBlur(item.layout.pixels / 32))
    noisy = np.asarray(blurred) + rng.normal(0, 20, (*blurred.size, 3))
    assert judge(noisy.clip(0, 255).round().astype(np.uint8), item).right


def test_what_is_nearest_but_not_near_is_wrong():
  """Half the way to an empty panel is at the edge, and beyond it nothing is right."""
  for item in CASES:
    for share, right in ((CLOSE - 0.1, True), (CLOSE + 0.1, False)):
      paper = drawing.blank(item.layout.pixels, item.inverted).astype(np.float32)
      faded = (1 - share) * true(item) + share * paper
      verdict = judge(faded.round().astype(np.uint8), item)
      assert verdict.distance == pytest.approx(share, abs=0.02)
      assert verdict.right <= right
      if isinstance(item.answer, panels.Strokes):
        assert verdict.right == right
