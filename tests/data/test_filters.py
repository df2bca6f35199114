import sys
import time
import types

import pytest

from dalle_jax.data import language
from dalle_jax.data.checks import Checked
from dalle_jax.data.filters import Filters, is_boilerplate
from dalle_jax.data.language import Detector
from dalle_jax.data.source import Dropped

GOOD = "a small red circle"


def example(*captions, size=(32, 32), attributes=""):
  return Checked(key="k", image=b"", captions=captions, attributes=attributes, size=size)


@pytest.mark.parametrize(
  ("caption", "boilerplate"),
  [
    ("photographed on 12 May 2012", True),
    ("Photo taken in 2014", True),
    ("taken on June 3rd, 2010 at 10:30 am", True),
    ("IMG_2043.JPG", True),
    ("DSC00123", True),
    ("Image 12", True),
    ("2010-05-03", True),
    ("Photo by John Smith", True),
    ("(c) 2009 all rights reserved", True),
    ("photographed on a bridge in May", False),
    ("a photo of two men in 1920", False),
    ("marble of the octagon", False),
    ("picture of a cat", False),
    ("May Day parade", False),
  ],
)
def test_boilerplate_says_when_or_by_whom_and_not_what(caption, boilerplate):
  assert is_boilerplate(caption) is boilerplate


@pytest.mark.parametrize("caption", ["1" * 10_000 + "x", "st th at " * 3000 + "!", "img" + "_-" * 5000 + "x"])
def test_a_caption_of_ten_thousand_characters_is_matched_at_once(caption):
  begin = time.monotonic()
  assert not is_boilerplate(caption)
  assert time.monotonic() - begin < 0.5


@pytest.mark.parametrize(
  ("size", "passes"), [((100, 50), True), ((50, 100), True), ((101, 50), False), ((50, 101), False), ((64, 64), True)]
)
def test_aspect_ratios_from_a_half_to_two_pass(size, passes):
  assert Filters().reason((GOOD,), size) == (None if passes else "aspect ratio outside [1/2, 2]")


@pytest.mark.parametrize(
  ("captions", "reason"),
  [
    (("a circle",), "caption too short"),
    (("photographed on 3 May 2011",), "caption is boilerplate"),
    (("two", GOOD), None),
  ],
)
def test_one_passing_caption_is_enough(captions, reason):
  assert Filters().reason(captions, (32, 32)) == reason


def test_captions_that_do_not_pass_are_left_out_one_by_one():
  assert Filters().judged(example("two", GOOD)).captions == (GOOD,)
  assert Filters().judged(example("two")) == Dropped(key="k", reason="caption too short", detail="two")


def test_attributes_speak_of_every_caption_so_none_is_taken_out_alone():
  assert Filters().judged(example("two", GOOD, attributes="{}")).captions == ("two", GOOD)


def test_without_a_detector_no_language_is_left_out_and_the_report_says_so():
  assert Filters().reason(("ein roter Kreis auf blauem Grund",), (32, 32)) is None
  assert "language not looked at (no detector installed)" in Filters().describe()


def detector(**confidences):
  return Detector(name="fake", confidences=lambda text: confidences)


def test_what_is_clearly_another_language_is_left_out():
  text = "ein roter Kreis auf blauem Grund"
  assert Filters(detector=detector(de=0.9, en=0.01)).reason((text,), (32, 32)) == "caption is not English"
  assert Filters(detector=detector(de=0.6, en=0.3)).reason((text,), (32, 32)) is None
  assert Filters(detector=detector()).reason((text,), (32, 32)) is None
  assert "English by fake" in Filters(detector=detector()).describe()


def test_a_few_words_are_not_judged_by_their_language():
  assert Filters(detector=detector(de=1.0)).reason(("sunset at sea",), (32, 32)) is None


def test_an_installed_detector_is_found(monkeypatch):
  module = types.ModuleType("langdetect")
  module.__spec__ = types.SimpleNamespace(name="langdetect")
  module.DetectorFactory = types.SimpleNamespace(seed=None)
  module.LangDetectException = ValueError
  module.detect_langs = lambda text: [types.SimpleNamespace(lang="de", prob=0.99)]
  monkeypatch.setitem(sys.modules, "langdetect", module)
  found = language.installed()
  assert found.name == "langdetect"
  assert found.is_foreign("ein roter Kreis auf blauem Grund")
  assert module.DetectorFactory.seed == 0
