"""Captioned scenes: repeatable, varied, true to their captions, and split by combinations that training never shows."""

import io
import itertools
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import captioned_scenes, scene_captions, scene_drawing, scene_layout, scene_splits, scenes
from dalle_jax.errors import UserError

SPLITS = ("train", "valid", "test", "test_pairs")
BACKGROUNDS = tuple(scenes.BACKGROUNDS)


def draw_many(split, number):
  return [scene_layout.sample(random.Random(f"{split}/{i}"), count=1 + i % 3, split=split) for i in range(number)]


@pytest.fixture(scope="module")
def by_split():
  return {split: draw_many(split, 450) for split in SPLITS}


def test_the_same_seed_gives_the_same_example_and_another_seed_another():
  first, again, other = (
    captioned_scenes.make_example(captioned_scenes.Config(seed=seed), "train", 7) for seed in (3, 3, 4)
  )
  assert first == again
  assert first["image"] != other["image"]


def test_more_examples_extend_a_set_without_changing_it():
  few, many = captioned_scenes.Config(train=3), captioned_scenes.Config(train=3000)
  assert captioned_scenes.make_example(few, "train", 2) == captioned_scenes.make_example(many, "train", 2)


def test_one_two_and_three_objects_are_a_third_each():
  config = captioned_scenes.Config()
  examples = [captioned_scenes.make_example(config, "valid", i) for i in range(30)]
  assert Counter(len(scenes.scene_of(e["attributes"]).objects) for e in examples) == {1: 10, 2: 10, 3: 10}


@pytest.mark.parametrize("size", [16, 33, 64, 128])
def test_a_scene_is_drawn_at_any_size_and_shows_the_same(size):
  scene = draw_many("train", 3)[2]
  picture_HWC, large_HWC = scene_drawing.draw(scene, size), scene_drawing.draw(scene, 256)
  assert picture_HWC.shape == (size, size, 3)
  shrunk_HWC = np.asarray(Image.fromarray(large_HWC).resize((size, size), Image.Resampling.BOX), np.float32)
  assert np.abs(shrunk_HWC - picture_HWC).mean() < 4


def test_too_small_a_picture_is_refused_in_one_line():
  with pytest.raises(UserError, match="got a picture of 15 pixels, wanted at least 16"):
    scene_drawing.draw(draw_many("train", 1)[0], 15)


def test_outlines_are_anti_aliased_and_sub_pixel_moves_show():
  red = lambda x: scenes.Object(shape="circle", colour="red", size="large", texture="solid", centre=(x, 16.0))  # noqa: E731
  pictures = [
    scene_drawing.draw(scenes.Scene(background="white", objects=(red(x),)), 32).astype(int) for x in (16.0, 16.25)
  ]
  ends = np.array([scenes.COLOURS["red"], scenes.BACKGROUNDS["white"]])
  mixed = ~(np.abs(pictures[0][:, :, None] - ends).max(-1) < 3).any(-1)
  assert mixed.sum() > 12
  assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize("pixel", [1.0, 0.5])
def test_centres_lie_at_every_whole_pixel_of_a_token(pixel):
  drawn = [scene_layout.sample(random.Random(i), count=1 + i % 3, split="train", pixel=pixel) for i in range(300)]
  phases = [coordinate / pixel % 4 for scene in drawn for o in scene.objects for coordinate in o.centre]
  counts = Counter(phases)
  assert set(counts) == {0, 1, 2, 3}
  assert min(counts.values()) > 0.8 * len(phases) / 4


@pytest.mark.parametrize("split", SPLITS)
def test_objects_lie_inside_the_frame_and_have_different_colours(by_split, split):
  for scene in by_split[split]:
    assert len({o.colour for o in scene.objects}) == len(scene.objects)
    for o in scene.objects:
      assert all(half <= c <= 32 - half for c, half in zip(o.centre, o.half_extents))


@pytest.mark.parametrize("split", SPLITS)
def test_every_relation_occurs_and_holds_in_the_layout(by_split, split):
  seen = Counter()
  for scene in by_split[split]:
    for first, name, second in scene.relations:
      a, b = scene.objects[first], scene.objects[second]
      (ax, ay), (bx, by), (aw, ah), (bw, bh) = a.centre, b.centre, a.half_extents, b.half_extents
      seen[name] += 1
      if name == "left of":
        assert ax + aw < bx - bw
      elif name == "above":
        assert ay + ah < by - bh
      elif name == "on top of":
        assert -1 < ay + ah - (by - bh) <= 1e-6  # they touch, or less than a pixel is between them
        assert abs(ax - bx) <= 1
      else:
        assert abs(ax - bx) + aw < bw
        assert abs(ay - by) + ah < bh
  assert set(seen) == {"left of", "above", "on top of", "inside"}


def withheld(scene):
  """How many objects of the scene are, before its background, a withheld combination."""
  return sum((*o.kind, scene.background) in scene_splits.WITHHELD for o in scene.objects)


def test_train_and_valid_hold_no_withheld_combination(by_split):
  for scene in by_split["train"] + by_split["valid"]:
    assert withheld(scene) == 0
    assert not any((o.shape, o.colour) in scene_splits.WITHHELD_PAIRS for o in scene.objects)


def test_each_test_scene_holds_one_withheld_combination_of_pairs_that_train_shows(by_split):
  shown = {(o.shape, o.colour) for scene in by_split["train"] for o in scene.objects}
  for scene in by_split["test"]:
    assert withheld(scene) == 1
    assert all((o.shape, o.colour) in shown for o in scene.objects)


@pytest.mark.slow
def test_test_shows_every_withheld_combination_and_train_every_other(by_split):
  shown = {
    split: {(*o.kind, scene.background) for scene in draw_many(split, 6000) for o in scene.objects}
    for split in ("train", "test")
  }
  pairs = set(itertools.product(scenes.SHAPES, scenes.COLOURS)) - set(scene_splits.WITHHELD_PAIRS)
  whole = {(*pair, *rest) for pair in pairs for rest in itertools.product(scenes.SIZES, scenes.TEXTURES, BACKGROUNDS)}
  assert set(scene_splits.WITHHELD) <= shown["test"]
  assert shown["train"] == whole - set(scene_splits.WITHHELD)


def test_each_scene_of_the_second_split_holds_one_withheld_pair(by_split):
  for scene in by_split["test_pairs"]:
    assert sum((o.shape, o.colour) in scene_splits.WITHHELD_PAIRS for o in scene.objects) == 1


def test_withheld_combinations_are_always_named_in_full(by_split):
  for seed, scene in enumerate(by_split["test"]):
    _, claims = scene_captions.caption(scene, seed)
    said = {(c.shape, c.colour, c.size, c.texture, claims.background) for c in claims.objects}
    assert len(said & set(scene_splits.WITHHELD)) == 1


def test_what_captions_claim_is_true_and_in_their_words(by_split):
  for seed, scene in enumerate(by_split["test"] + by_split["train"]):
    text, claims = scene_captions.caption(scene, seed)
    words = text.replace(",", " ").split()
    assert claims.relations == scene.relations
    assert claims.background in (None, scene.background)
    assert (claims.background in words) == (claims.background is not None)
    for o, claim in zip(scene.objects, claims.objects, strict=True):
      assert (claim.shape, claim.colour) == (o.shape, o.colour)
      assert claim.size in (None, o.size)
      assert claim.texture in (None, o.texture)
      assert claim.colour in words
      assert set(words) & set(scene_captions.SHAPE_WORDS[claim.shape])
    for name, table in (("size", scene_captions.SIZE_WORDS), ("texture", scene_captions.TEXTURE_WORDS)):
      spoken = {meaning for meaning, synonyms in table.items() if set(words) & set(synonyms)}
      assert spoken == {getattr(claim, name) for claim in claims.objects} - {None}


def test_captions_are_varied_and_short(by_split):
  scene = by_split["train"][1]
  texts = {scene_captions.caption(scene, seed)[0] for seed in range(200)}
  assert len(texts) > 100
  assert all(len(text.split()) <= 30 and text == text.lower() for text in texts)


def test_attributes_come_back_from_their_text():
  example = captioned_scenes.make_example(captioned_scenes.Config(captions=3), "test", 5)
  scene = scenes.scene_of(example["attributes"])
  assert len(scenes.claims_of(example["attributes"])) == len(example["captions"]) == 3
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example["image"]))), scene_drawing.draw(scene, 32))


def test_an_unknown_split_and_a_wrong_count_are_refused():
  with pytest.raises(UserError, match="got split 'tset', wanted one of train"):
    scene_layout.sample(random.Random(0), count=1, split="tset")
  with pytest.raises(UserError, match="got 4 objects, wanted 1, 2 or 3"):
    scene_layout.sample(random.Random(0), count=4, split="train")
  with pytest.raises(UserError, match="got image=0"):
    captioned_scenes.Config(image=0)
