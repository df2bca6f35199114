import pytest

from dalle_jax.evaluation.probes.grammar import indefinite
from dalle_jax.evaluation.probes.suite import (
  Caption,
  Category,
  ImagePrompt,
  Part,
  Slot,
  Suite,
  Template,
  Word,
  ours,
  stated,
)

KIND = Slot(name="kind", words=(*stated("red", "orange"), *ours("blue")))
THING = Slot(
  name="thing", words=(Word(text="hexagon", adjective="hexagonal"), Word(text="octagon", adjective="octagonal"))
)


def suite(**changes):
  template = Template(text="a {kind} {thing:adjective} x. a {thing}", slots=(KIND, THING))
  return Suite(**{"name": "some", "category": Category.time, "templates": (template,)} | changes)


@pytest.mark.parametrize(
  ("word", "article"),
  [
    ("walnut", "a"),
    ("airplane", "an"),
    ("x-ray", "an"),
    ("hour", "an"),
    ("unicorn", "a"),
    ("umbrella", "an"),
    ("uninvited guest", "an"),
    ("used car", "a"),
    ("usual day", "a"),
    ("ukulele", "a"),
    ("european city", "a"),
    ("one-eyed cat", "a"),
    ("onion", "an"),
    ("house", "a"),
  ],
)
def test_the_article_goes_by_how_a_word_is_said(word, article):
  assert indefinite(word) == article


def test_captions_are_all_choices_with_articles_and_forms_that_fit():
  texts = [caption.text for caption in suite().captions()]
  assert texts == [
    "a red hexagonal x. a hexagon",
    "a red octagonal x. an octagon",
    "an orange hexagonal x. a hexagon",
    "an orange octagonal x. an octagon",
    "a blue hexagonal x. a hexagon",
    "a blue octagonal x. an octagon",
  ]
  assert len(suite()) == 6


def test_a_word_may_bring_its_own_article_or_none():
  words = (*stated("earth", article="the"), *stated("gold", article=""), *stated("acorn"))
  template = Template(text="the texture of a {thing} from the {thing}", slots=(Slot(name="thing", words=words),))
  assert [caption.text for caption in suite(templates=(template,)).captions()] == [
    "the texture of the earth from the earth",
    "the texture of gold from gold",
    "the texture of an acorn from the acorn",
  ]


def test_a_captions_parts_say_which_slot_they_fill():
  template = suite().templates[0]
  caption = Caption(template=template, words=(KIND.words[1], THING.words[0]))
  assert caption.parts() == (
    Part(text="an "),
    Part(text="orange", slot="kind"),
    Part(text=" "),
    Part(text="hexagonal", slot="thing"),
    Part(text=" x. a "),
    Part(text="hexagon", slot="thing"),
  )
  assert {name: word.text for name, word in caption.chosen.items()} == {"kind": "orange", "thing": "hexagon"}


def test_slots_that_want_different_words_get_them():
  other = Slot(name="other", words=KIND.words)
  template = Template(text="{kind} {other}", slots=(KIND, other), distinct=("kind", "other"))
  texts = [caption.text for caption in suite(templates=(template,)).captions()]
  assert len(texts) == 3 * 2
  assert not any(len(set(text.split())) == 1 for text in texts)


@pytest.mark.parametrize(
  ("text", "slots"),
  [
    ("{thing} {kind}", (KIND, THING)),
    ("{kind}", (KIND, THING)),
    ("{kind} {size}", (KIND,)),
    ("{kind}", (Slot(name="kind", words=()),)),
    ("{kind}", (Slot(name="kind", words=stated("red", "red")),)),
  ],
)
def test_a_template_and_its_slots_have_to_fit(text, slots):
  with pytest.raises(ValueError, match=r"wanted those of|holds no word, or one of them twice"):
    Template(text=text, slots=slots)


@pytest.mark.parametrize(("grid", "rows"), [(32, 15), (8, 4), (4, 2), (2, 1), (64, 30)])
def test_as_large_a_part_is_given_of_pictures_with_other_grids(grid, rows):
  assert ImagePrompt(shows="a cat", rows=15).rows_of(grid) == rows


def test_some_of_a_picture_is_always_given_and_some_drawn():
  assert ImagePrompt(shows="sky", rows=1).rows_of(8) == 1
  assert ImagePrompt(shows="a cat", rows=31).rows_of(4) == 3
