"""The suites beside what is known of the blog: names, counts, words and prompts."""

import itertools

import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation.probes.catalogue import SUITES, find
from dalle_jax.evaluation.probes.suite import Category

BY_NAME = {suite.name: suite for suite in SUITES}

# The captions that are known word for word.
CAPTIONS = {
  "shape": ["a pentagonal green clock. a green clock in the shape of a pentagon."],
  "material": ["a cube made of porcupine. a cube with the texture of a porcupine."],
  "multiple_copies": ["a collection of glasses is sitting on a table"],
  "relative_positions": ["a small red block sitting on a large green block"],
  "stacking_snap": [
    "a stack of 3 cubes. a red cube is on the top, sitting on a green cube. the green cube is in the middle, sitting "
    "on a blue cube. the blue cube is on the bottom."
  ],
  "multiple_attributes": ["an emoji of a baby penguin wearing a blue hat, red gloves, green shirt, and yellow pants"],
  "camera_angles": ["an extreme close-up view of a capybara sitting in a field"],
  "three_d_views": ["a capybara made of voxels sitting in a field"],
  "rotating_head": ["a photograph of a bust of medusa"],
  "rotating_mirror": [
    "a rubik's cube looking at its own reflection in a mirror. a rubik's cube gazing at itself in a mirror."
  ],
  "cross_sections": ["a cross-section view of a walnut", "a cross-section view of the earth"],
  "macro_photos": ["a macro photograph of brain coral"],
  "im2im_animal": [
    "the exact same cat on the top as a sketch on the bottom",
    "the exact same photo on the top reflected upside-down on the bottom",
    "2 panel image of the exact same cat. on the top, a photo of the cat. on the bottom, the cat with sunglasses",
  ],
  "im2im_object": ["the exact same teapot on the top with 'gpt' written on it on the bottom"],
  "timelines": [
    "a photo of a phone from the distant future",
    "a photo of an action movie poster from the two thousands",
    "a photo of a television from today",
  ],
}

# How many words a slot has, and of those how many are known and not our own (None: all).
COUNTS = {
  ("cross_sections", "thing"): (18, 9),
  ("macro_photos", "thing"): (19, 1),
  ("location_and_setting", "style"): (20, 1),
  ("location_and_setting", "animal"): (7, None),
  ("location_and_setting", "place"): (3, None),
  ("location_and_setting", "time"): (12, 0),
  ("unusual_media", "medium"): (27, 1),
  ("unusual_media", "colour"): (5, None),
  ("unusual_media", "food"): (10, 0),
  ("text_rendering", "carrier"): (15, 1),
  ("text_rendering", "word"): (13, None),
  ("rotating_head", "head"): (9, None),
  ("rotating_mirror", "thing"): (7, None),
  ("animal_concept_transfer", "animal"): (9, 0),
  ("animal_concept_transfer", "thing"): (85, 0),
  ("product_design", "object"): (11, 0),
  ("product_design", "way"): (3, None),
  ("product_design", "thing"): (19, 0),
  ("anthropomorphism", "subject"): (18, 1),
  ("anthropomorphism", "outfit"): (12, 1),
  ("anthropomorphism", "activity"): (21, 1),
  ("emojis", "mood"): (11, 0),
  ("emojis", "subject"): (36, 0),
  ("countries", "thing"): (10, None),
  ("neighborhood", "from where"): (3, None),
  ("neighborhood", "when"): (3, None),
  ("landmarks", "landmark"): (12, 0),
  ("timelines", "thing"): (9, None),
  ("timelines", "time"): (15, None),
}

GO_ON_FROM_A_PICTURE = {
  *("rotating_head", "rotating_mirror", "male_fashion_design", "female_fashion_design", "living_room_design"),
  *("bedroom_design", "im2im_animal", "im2im_object", "landmarks", "timelines"),
}


def slot(suite, name):
  return next(slot for template in BY_NAME[suite].templates for slot in template.slots if slot.name == name)


@pytest.mark.parametrize("suite", CAPTIONS)
def test_captions_that_are_known_word_for_word_are_among_a_suites(suite):
  texts = {caption.text for caption in BY_NAME[suite].captions()}
  assert set(CAPTIONS[suite]) <= texts


@pytest.mark.parametrize(("suite", "name"), COUNTS)
def test_slots_hold_as_many_words_as_is_known_and_say_which_are_ours(suite, name):
  words = slot(suite, name).words
  count, known = COUNTS[suite, name]
  assert len(words) == count
  assert sum(not word.ours for word in words) == (count if known is None else known)


def test_about_190_countries_and_110_districts_all_of_them_ours():
  countries, districts = slot("countries", "country").words, slot("neighborhood", "district").words
  assert 185 <= len(countries) <= 196
  assert 105 <= len(districts) <= 116
  assert all(word.ours for word in (*countries, *districts))


def test_every_heading_has_its_suites_and_each_name_is_there_once():
  assert {suite.category for suite in SUITES} == set(Category)
  names = [*BY_NAME, *(category.name for category in Category), "all"]
  assert len(set(names)) == len(SUITES) + len(Category) + 1
  assert len(SUITES) == 30


def test_those_that_go_on_from_a_picture_are_the_blogs_and_only_two_of_them_have_the_papers_rows():
  assert {suite.name for suite in SUITES if suite.image_prompt} == GO_ON_FROM_A_PICTURE
  known = {suite.name: suite.image_prompt.rows for suite in SUITES if suite.image_prompt and suite.image_prompt.stated}
  assert known == {"im2im_animal": 15, "im2im_object": 15}


def test_text_is_asked_for_three_times_and_once_more():
  first = next(BY_NAME["text_rendering"].captions()).text
  assert first == "a store front that has the word 'agi' written on it. " * 3 + "agi store front."


def test_blocks_that_are_stacked_all_have_different_colours():
  for caption in BY_NAME["stacking_snap"].captions():
    assert len({word.text for word in caption.words}) == 3
  assert len(BY_NAME["stacking_snap"]) == 4 * 3 * 2


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_captions_are_english_in_lower_case_and_each_is_there_once(suite):
  texts = [caption.text for caption in suite.captions()]
  assert len(set(texts)) == len(texts) == len(suite)
  for text in texts:
    assert text == text.lower() == " ".join(text.split())
    assert "{" not in text
    words = text.replace(".", " ").replace(",", " ").split()
    for article, word in itertools.pairwise(words):
      if article in ("a", "an") and not word.startswith("x-"):
        said_with_a_vowel = word[0] in "aeiou"
        assert (article == "an") == said_with_a_vowel, text
      assert (article, word) not in {("the", "a"), ("a", "the"), ("an", "the"), ("a", "a"), ("the", "the")}, text


def test_suites_are_found_by_their_names_by_heading_and_all_of_them_once_and_in_order():
  assert [suite.name for suite in find(["material", "shape", "shape"])] == ["shape", "material"]
  assert [suite.name for suite in find(["structure", "macro_photos"])] == ["cross_sections", "macro_photos"]
  assert find(["all", "time"]) == SUITES


@pytest.mark.parametrize(
  ("name", "says"),
  [("shapes", "did you mean 'shape'?"), ("geographic", "did you mean 'geography'?"), ("qqq", "no suite 'qqq'; (dalle")],
)
def test_a_misspelt_suite_is_answered_with_the_nearest(name, says):
  with pytest.raises(UserError) as raised:
    find(["shape", name])
  assert says in str(raised.value)
  assert len(str(raised.value)) < 120
