"""Composition: verdicts of samples by caption, best of N over all subsets, tables by number of objects."""

import dataclasses

import numpy as np
import pytest

from dalle_jax.data import scene_drawing, scenes
from dalle_jax.evaluation import composition

RED = scenes.Object(shape="circle", colour="red", size="large", texture="solid", centre=(14.3, 15.8))
BLUE = scenes.Object(shape="square", colour="blue", size="small", texture="solid", centre=(16.6, 17.1))
LEFT = scenes.Object(shape="heart", colour="pink", size="small", texture="solid", centre=(7.0, 16.0))
RIGHT = scenes.Object(shape="cross", colour="green", size="small", texture="solid", centre=(23.0, 16.0))
PAIR = scenes.Scene(background="beige", objects=(LEFT, RIGHT), relations=((0, "left of", 1),))
SCENES = (
  scenes.Scene(background="white", objects=(RED,)),
  scenes.Scene(background="gray", objects=(BLUE,)),
  PAIR,
)
RED_PICTURE, BLUE_PICTURE, PAIR_PICTURE = (scene_drawing.draw(scene, 32) for scene in SCENES)


@pytest.fixture(scope="module")
def judged():
  told = []
  result = composition.judge_split(
    "test",
    [scenes.everything_about(scene) for scene in SCENES],
    samples_CNHWC=np.stack(
      [
        np.stack([RED_PICTURE, BLUE_PICTURE, BLUE_PICTURE, BLUE_PICTURE]),
        np.stack([RED_PICTURE, BLUE_PICTURE, RED_PICTURE, BLUE_PICTURE]),
        np.stack([PAIR_PICTURE] * 4),
      ]
    ),
    scores={
      "CLIP": np.array([[4.0, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4]]),
      "likelihood": np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]),
    },
    reconstructions_CHWC=np.stack([RED_PICTURE, RED_PICTURE, PAIR_PICTURE]),
    truths_CHWC=np.stack([RED_PICTURE, BLUE_PICTURE, PAIR_PICTURE]),
    progress=told.append,
  )
  assert sum(told) == 12
  return result


def test_each_sample_is_judged_by_its_own_caption(judged):
  np.testing.assert_array_equal(judged.right["all"], [[1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
  np.testing.assert_array_equal(judged.right["background"][0], [1, 0, 0, 0])
  assert judged.right["count"][:2].all()


def test_the_best_of_n_is_chosen_by_score_over_all_subsets(judged):
  np.testing.assert_allclose(judged.best_of(1, "CLIP"), [1 / 4, 2 / 4, 1])
  np.testing.assert_allclose(judged.single(), [1 / 4, 2 / 4, 1])
  # Pairs of four samples by rank: the first is best in 3 of 6 pairs, the second in 2, the third in 1.
  np.testing.assert_allclose(judged.best_of(2, "CLIP"), [3 / 6, 2 / 6, 1])
  np.testing.assert_allclose(judged.best_of(4, "CLIP"), [1, 0, 1])
  np.testing.assert_allclose(judged.best_of(4, "likelihood"), [0, 1, 1])
  np.testing.assert_allclose(judged.any_of(2), [3 / 6, 5 / 6, 1])


def test_the_table_splits_by_objects_and_leaves_out_n_that_were_not_drawn(judged):
  rows = {row.pictures: row.by_objects for row in composition.table(judged, ns=(1, 4, 8))}
  assert set(rows["true pictures"]) == {"1 object", "2 objects", "all"}
  assert "best of 8 by CLIP" not in rows
  assert rows["single sample"]["1 object"].rate == pytest.approx(0.375)
  assert rows["best of 4 by CLIP"]["all"].rate == rows["best of 4 by likelihood"]["all"].rate == pytest.approx(2 / 3)
  assert rows["best of 4 by CLIP"]["1 object"].rate == 0.5
  assert rows["any of 4 (a perfect reranker)"]["all"].rate == 1
  assert rows["ceiling: dVAE's reconstructions"]["all"].rate == pytest.approx(2 / 3)
  assert rows["true pictures"]["all"].rate == 1
  interval = rows["single sample"]["all"]
  assert interval.of == 3
  assert interval.low < interval.rate < interval.high


def test_chance_judges_by_captions_of_other_pictures_with_as_many_objects(judged):
  # Caption 0's first sample, red, is wrong for caption 1; caption 1's first sample, red too, is right for caption 0.
  np.testing.assert_array_equal(judged.chance_C, [0, 1, 0])


def test_the_curve_and_the_aspects(judged):
  curve = composition.curve(judged, "CLIP", objects=2)
  assert list(curve) == [1, 2, 4]
  assert all(value.rate == 1 and value.of == 1 for value in curve.values())
  assert composition.curve(judged, None)[4].rate == 1
  aspects = composition.aspects(judged, ns=(1,))
  assert aspects["relation"]["single sample"].rate == 1
  assert aspects["colour"]["single sample"].rate == pytest.approx((0.25 + 0.5 + 1) / 3)


def test_the_text_has_a_line_for_each_row(judged):
  lines = composition.as_text(composition.table(judged)).splitlines()
  assert lines[0].split()[:2] == ["split", "pictures"]
  assert len(lines) == 1 + len(composition.table(judged))
  assert "100.0 %" in lines[-1]


def test_splits_that_hold_other_numbers_of_objects_share_one_table(judged):
  """Of three captions a split may have none with one object; the table then had no such column, or failed for it."""
  rows = composition.table(judged, ns=(1,))
  few = [dataclasses.replace(row, split="few", by_objects={"all": row.by_objects["all"]}) for row in rows]
  for both in (rows + few, few + rows):
    lines = composition.as_text(both).splitlines()
    assert lines[0].split("  ")[0] == "split"
    assert all(name in lines[0] for name in ("1 object", "2 objects", "all"))
    assert len(lines) == 1 + len(both)
    few_line = next(line for line in lines if line.startswith("few"))
    assert few_line[lines[0].index("all") :] == str(rows[0].by_objects["all"])
