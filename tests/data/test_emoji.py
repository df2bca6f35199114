import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import emoji, emoji_annotations, emoji_splits
from dalle_jax.data.emoji_annotations import Annotation
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import UserError

needs_files = pytest.mark.skipif(
  not (emoji.FONT.is_file() and emoji.ANNOTATIONS.is_dir()),
  reason="wants the packages fonts-noto-color-emoji and unicode-cldr-core",
)
JUDGE = "🧑{}\u200d⚖"


def cldr(folder, language="en", single="", derived=""):
  for part, annotations in (("annotations", single), ("annotationsDerived", derived)):
    (folder / part).mkdir(exist_ok=True)
    text = f'<?xml version="1.0" encoding="UTF-8"?><ldml><annotations>{annotations}</annotations></ldml>'
    (folder / part / f"{language}.xml").write_text(text, encoding="utf-8")
  return folder


def annotation(text, name, *keywords):
  row = f'<annotation cp="{text}" type="tts">{name}</annotation>'
  return f'<annotation cp="{text}">{" | ".join(keywords)}</annotation>{row}' if keywords else row


def test_names_and_keywords_are_read_from_both_folders(tmp_path):
  folder = cldr(
    tmp_path, single=annotation("🦊", "fox", "face", "fox"), derived=annotation("🇫🇷", "flag: France", "flag")
  )
  fox, flag = emoji_annotations.read(folder, "en")
  assert fox == Annotation(text="🦊", name="fox", keywords=("face", "fox"))
  assert (fox.key, fox.captions) == ("1f98a", ("fox", "fox, face"))
  assert (flag.key, flag.captions) == ("1f1eb-1f1f7", ("flag: France",))


def test_a_language_of_a_country_takes_what_it_does_not_say_from_the_language(tmp_path):
  cldr(tmp_path, "en", single=annotation("🦊", "fox") + annotation("🧁", "cupcake"))
  cldr(tmp_path, "en_AU", single=annotation("🧁", "patty cake") + annotation("🦊", "↑↑↑"))
  assert [each.name for each in emoji_annotations.read(tmp_path, "en-AU")] == ["fox", "patty cake"]


def test_another_script_is_another_language(tmp_path):
  cldr(tmp_path, "zh", single=annotation("🦊", "狐狸") + annotation("🐴", "马头"))
  cldr(tmp_path, "zh_Hant", single=annotation("🐴", "馬頭"))
  assert [each.name for each in emoji_annotations.read(tmp_path, "zh_Hant")] == ["馬頭"]


def test_damaged_annotations_are_one_line(tmp_path):
  cldr(tmp_path)
  (tmp_path / "annotations/en.xml").write_text("<ldml><annot")
  with pytest.raises(UserError, match="cannot read the emoji names in"):
    emoji_annotations.read(tmp_path, "en")


def test_an_unknown_language_suggests_the_nearest(tmp_path):
  cldr(tmp_path, "en_AU")
  with pytest.raises(UserError, match=r"did you mean 'en_AU'\?"):
    emoji_annotations.read(tmp_path, "en_AUS")


def test_missing_files_are_one_line_that_says_what_to_install(tmp_path):
  for call in (
    lambda: emoji.open_emoji(font=tmp_path / "no.ttf"),
    lambda: emoji_annotations.read(tmp_path / "nothing", "en"),
  ):
    with pytest.raises(UserError) as error:
      call()
    message = str(error.value)
    assert (
      "`apt-get install fonts-noto-color-emoji unicode-cldr-core`, or name files with --font, --annotations" in message
    )
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"no font", b"CBDT and then nothing"])
def test_a_file_that_is_no_colour_font_is_one_line(tmp_path, content):
  (tmp_path / "font.ttf").write_bytes(content)
  with pytest.raises(UserError, match=r"wanted .*NotoColorEmoji\.ttf"):
    emoji.open_emoji(font=tmp_path / "font.ttf")


def test_every_profession_and_every_tone_occurs_in_training():
  together = Counter()
  for object_ in emoji_splits.PROFESSIONS:
    for tone in emoji_splits.TONES:
      splits = {emoji_splits.split(person + tone + emoji_splits.JOINER + object_) for person in emoji_splits.PERSONS}
      assert len(splits) == 1
      together[splits.pop(), object_] += 1
      together[emoji_splits.split("🧑" + tone + emoji_splits.JOINER + object_), tone] += 1
  assert all(together["train", object_] == 4 for object_ in emoji_splits.PROFESSIONS)
  assert all(together["held_out", object_] == 1 for object_ in emoji_splits.PROFESSIONS)
  assert all(together["train", tone] >= 12 and together["held_out", tone] >= 3 for tone in emoji_splits.TONES)
  assert len(emoji_splits.HELD_OUT) == 48


def test_the_selector_of_emoji_presentation_does_not_move_one_across():
  assert emoji_splits.split(JUDGE.format("🏾")) == emoji_splits.split(JUDGE.format("🏾") + "\ufe0f") == "held_out"
  assert emoji_splits.split(JUDGE.format("🏿")) == "train"
  assert emoji_splits.split(JUDGE.format("")) == "train"


@needs_files
def test_pictures_of_the_font_are_drawn_and_what_it_cannot_draw_is_told(tmp_path):
  rows = [
    annotation("🦊", "fox", "face"),
    annotation("🇨🇵", "flag: Clipperton Island"),
    annotation("🇫🇷", "flag: France"),
    annotation("∑", "sum"),
    annotation("🦊🦊", "two foxes"),
    annotation(JUDGE.format("🏾"), "judge: medium-dark skin tone"),
  ]
  source = emoji.open_emoji(annotations=cldr(tmp_path, single="".join(rows)))
  train = list(source.examples("train"))
  assert source.count("train") == len(train) == 5
  assert {each.key: each.reason for each in train if isinstance(each, Dropped)} == {
    "1f1e8-1f1f5": "same picture as another",
    "2211": "no glyph in the font",
    "1f98a-1f98a": "several glyphs",
  }
  assert [each.captions[0] for each in train if isinstance(each, Raw)] == ["fox", "flag: France"]
  assert [each.key for each in source.examples("held_out")] == ["1f9d1-1f3fe-200d-2696"]
  fox_HWC = np.asarray(Image.open(io.BytesIO(train[0].image)))
  assert fox_HWC.shape == (128, 136, 3)
  assert (fox_HWC[0, 0] == 255).all()
  red, _, blue = fox_HWC[64, 20:116].mean(0)
  assert red > blue + 40


@needs_files
def test_the_whole_set_is_about_three_and_a_half_thousand_pictures():
  source = emoji.open_emoji()
  font = source.font
  drawn = [each for each in source.annotations[::20] if not isinstance(font.draw(each.text), str)]
  assert 150 < len(drawn) < 210
  assert source.count("held_out") == 48
  assert {each.text for each in source.annotations} >= emoji_splits.HELD_OUT


@needs_files
@pytest.mark.parametrize(("language", "name"), [("de", "Fuchs"), ("ja", "キツネ"), ("es_MX", "zorro")])
def test_captions_come_in_many_languages(language, name):
  found = {each.text: each for each in emoji.open_emoji(language=language).annotations}
  assert name.casefold() in found["🦊"].name.casefold()


@needs_files
def test_the_builder_writes_what_the_source_yields(tmp_path):
  rows = annotation("🦊", "fox", "face") + annotation("∑", "sum")
  config = emoji.Config(annotations=cldr(tmp_path, single=rows, derived=annotation(JUDGE.format("🏾"), "judge")))
  builder = emoji.Emoji(data_dir=tmp_path / "out", config=config, file_format="array_record")
  builder.download_and_prepare()
  [fox] = builder.as_data_source("train")
  assert [text.decode() for text in fox["captions"]] == ["fox", "fox, face"]
  assert fox["image"].shape == (128, 136, 3)
  assert builder.info.splits["held_out"].num_examples == 1
