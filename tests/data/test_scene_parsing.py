"""Captions of scenes read back: all that the templates write, and nothing that they don't."""

import random

import pytest

from dalle_jax.data import captioned_scenes, scene_captions, scene_parsing, scenes


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_caption_is_read_back_as_what_it_claims(split):
  config = captioned_scenes.Config(image=16)
  seen = set()
  for i in range(150):
    example = captioned_scenes.make_example(config, split, i)
    for text, claims in zip(example["captions"], scenes.claims_of(example["attributes"]), strict=True):
      assert scene_parsing.parse(text) == claims, text
      seen |= {len(claims.objects), claims.background, *(name for _, name, _ in claims.relations)}
  unsaid = {None} if split == "train" else set()  # withheld combinations are told in full
  assert {1, 2, 3, *unsaid, *scenes.BACKGROUNDS, *scenes.RELATIONS} <= seen


def test_another_caption_of_a_scene_is_read_back_too():
  config = captioned_scenes.Config(image=16)
  for i in range(20):
    scene = scenes.scene_of(captioned_scenes.make_example(config, "train", i)["attributes"])
    for seed in random.Random(i).sample(range(10**6), 20):
      text, claims = scene_captions.caption(scene, seed)
      assert scene_parsing.parse(text) == claims, text


@pytest.mark.parametrize(
  "text",
  [
    "",
    "circle",
    "a circle",
    "a red",
    "a red green circle",
    "a small large red circle",
    "a red circle a blue square",
    "a red circle above",
    "a red circle above a blue square,",
    "a red circle above a blue square, and the green heart above a pink cross",
    "a red circle with a blue square",
    "a red circle on a purple background",
    "a red circles",
    "a red circle above a blue square that is above a green heart that is above a pink cross",
  ],
)
def test_what_is_not_of_the_templates_form_is_nothing(text):
  assert scene_parsing.parse(text) is None
