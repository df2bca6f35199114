"""A suite's page: what it offers, read from its file, and what it does, driven in headless Chromium."""

import html.parser
import json

import browser
import numpy as np
import pytest
from PIL import Image

from dalle_jax.evaluation.probes import page
from dalle_jax.evaluation.probes.catalogue import SUITES, find
from dalle_jax.evaluation.probes.subset import subset
from dalle_jax.evaluation.probes.suite import Caption, Category, Slot, Suite, Template, Word, ours, stated

COLOURS = Slot(name="colour", words=(*stated("red", "orange"), *ours("blue <b>")))
THINGS = Slot(
  name="thing", words=(Word(text="hexagon", adjective="hexagonal"), *ours("cat"), Word(text="ant", adjective="small"))
)
ONE = Template(text="a {colour} clock in the shape of a {thing}", slots=(COLOURS, THINGS))
TWO = Template(
  text="a {thing} that is not {kind}", slots=(THINGS, Slot(name="kind", words=stated("a clock"))), ours=True
)
SUITE = Suite(name="some_suite", category=Category.time, templates=(ONE, TWO), note="A <b>note</b>.")
# What is drawn, as words of the slots; the page shows the first to begin with.
RED_HEXAGON = (ONE, "red", "hexagon")
RED_CAT = (ONE, "red", "cat")
ORANGE_CAT = (ONE, "orange", "cat")
BLUE_ANT = (ONE, "blue <b>", "ant")
OTHER = (TWO, "cat", "a clock")


def caption(template, *words):
  found = [{word.text: word for word in slot.words}[text] for slot, text in zip(template.slots, words)]
  return Caption(template=template, words=tuple(found))


def write(out, drawn, suite=SUITE, pictures=3, warnings=(), size=8):
  """A page of captions that were drawn, with pictures in a folder of their own each."""
  shown = []
  for number, each in enumerate(drawn):
    folder = f"{number:03d}-some"
    (out / folder).mkdir(parents=True)
    files = tuple((f"{folder}/{i:02d}.png", f"0.{number}{i}") for i in range(pictures))
    for file in (*(name for name, _ in files), f"{folder}/sheet.png"):
      Image.fromarray(np.full((size, size, 3), 15 * number, np.uint8)).save(out / file)
    shown.append(page.Shown(caption=caption(*each), pictures=files, sheet=f"{folder}/sheet.png"))
  return page.write(out, suite, shown, about={"seed": 3}, warnings=warnings, fine=size >= 128)


class Parsed(html.parser.HTMLParser):
  def __init__(self, text):
    super().__init__()
    self.links, self.data, self.texts = [], None, []
    self.inside = ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.links += [value for name, value in attrs if name in ("src", "href")]
    self.inside = dict(attrs).get("id", "")

  def handle_data(self, data):
    self.texts.append(data)
    if self.inside == "drawn" and self.data is None:
      self.data = json.loads(data)


def offered(path):
  data = Parsed(path.read_text()).data
  return {slot["name"]: [word["text"] for word in slot["words"]] for slot in data["slots"]}


def test_words_that_were_not_drawn_are_not_offered_and_the_others_stand_in_the_suites_order(tmp_path):
  assert offered(write(tmp_path / "a", [BLUE_ANT, RED_CAT])) == {"colour": ["red", "blue <b>"], "thing": ["cat", "ant"]}
  assert offered(write(tmp_path / "b", [RED_CAT])) == {"colour": ["red"], "thing": ["cat"]}


def test_wordings_are_a_slot_where_several_were_drawn(tmp_path):
  names = offered(write(tmp_path, [RED_CAT, OTHER]))
  assert list(names) == ["wording", "colour", "thing", "kind"]
  assert names["wording"] == ["a … clock in the shape of a …", "a … that is not …"]


def test_captions_hold_their_words_their_pictures_and_whether_the_wording_is_ours(tmp_path):
  data = Parsed(write(tmp_path, [RED_CAT, OTHER]).read_text()).data
  first, second = data["captions"]
  assert first["words"] == {"wording": "a … clock in the shape of a …", "colour": "red", "thing": "cat"}
  assert "".join(text for text, _ in first["parts"]) == "a red clock in the shape of a cat"
  assert [file for file, _ in first["pictures"]] == [f"000-some/{i:02d}.png" for i in range(3)]
  assert (first["ours"], second["ours"]) == (False, True)
  assert {word["text"]: word["ours"] for word in data["slots"][2]["words"]} == {"cat": True}


def test_all_is_in_one_file_but_the_pictures_and_text_stays_text(tmp_path):
  path = write(tmp_path, [RED_CAT, BLUE_ANT], warnings=["</script> is said & more"])
  parsed = Parsed(path.read_text())
  assert parsed.data is not None
  assert all((tmp_path / link).is_file() for link in parsed.links if link != "../index.html")
  assert "A <b>note</b>." in "".join(parsed.texts)
  assert "</script> is said & more." in "".join(parsed.texts)
  assert "a blue <b> clock in the shape of an ant" in parsed.texts
  assert path.read_text().count("</script>") == 2


def test_without_a_script_there_is_a_list_of_sheets(tmp_path):
  links = Parsed(write(tmp_path, [RED_CAT, OTHER]).read_text()).links
  assert {"000-some/sheet.png", "001-some/sheet.png"} <= set(links)


def test_what_a_picture_gives_is_said_with_whose_number_of_rows_it_is(tmp_path):
  for name, whose in (("im2im_object", "15 rows of 32 are the paper's"), ("landmarks", "4 rows of 32 are ours")):
    (suite,) = find([name])
    (tmp_path / name).mkdir()
    shown = page.Shown(caption=next(suite.captions()), pictures=(("a.png", ""),), sheet="b.png")
    text = page.write(tmp_path / name, suite, [shown], about={}, warnings=(), fine=True).read_text()
    assert whose in "".join(Parsed(text).texts)


@pytest.fixture(scope="module")
def chromium():
  with browser.opened() as found:
    yield found


@pytest.fixture
def opened(chromium, tmp_path):
  chromium.resize(1200, 900)
  chromium.prefer("light")
  chromium.open(write(tmp_path, [RED_HEXAGON, RED_CAT, ORANGE_CAT, BLUE_ANT, OTHER]))
  yield chromium
  chromium.check()


def pick(chromium, slot, word):
  """Clicks a word below the caption."""
  (choice,) = (
    each
    for each in chromium.all("fieldset:not([hidden]) label")
    if each.find_element("css selector", "input").get_attribute("name") == slot and each.text == word
  )
  choice.click()


def state(chromium):
  """The caption, the number of the pictures shown, and the words that are marked."""
  files = chromium.pictures("#pictures img")
  (folder,) = {file.split("/")[0] for file in files}
  assert files == [f"{folder}/{i:02d}.png" for i in range(3)]
  marked = {
    each.get_attribute("name"): each.get_attribute("value")
    for each in chromium.all("fieldset:not([hidden]) input:checked")
  }
  return "".join(chromium.texts("#caption")), int(folder[:3]), marked


def test_the_page_begins_with_the_first_caption(opened):
  wording = "a … clock in the shape of a …"
  assert state(opened) == (
    "a red clock in the shape of a hexagon",
    0,
    {"wording": wording, "colour": "red", "thing": "hexagon"},
  )
  assert opened.texts("figcaption") == ["0.00", "0.01", "0.02"]


def test_a_word_that_is_picked_changes_the_caption_and_the_pictures(opened):
  pick(opened, "thing", "cat")
  assert state(opened)[:2] == ("a red clock in the shape of a cat", 1)
  pick(opened, "colour", "orange")
  assert state(opened)[:2] == ("an orange clock in the shape of a cat", 2)


def test_where_nothing_was_drawn_with_the_others_these_move_to_the_nearest(opened):
  pick(opened, "colour", "orange")  # of hexagons only a red one was drawn
  caption, number, marked = state(opened)
  assert (caption, number) == ("an orange clock in the shape of a cat", 2)
  assert (marked["colour"], marked["thing"]) == ("orange", "cat")
  pick(opened, "thing", "hexagon")
  assert state(opened)[:2] == ("a red clock in the shape of a hexagon", 0)


def test_words_that_would_move_others_look_different(opened):
  moving = {each.text for each in opened.all("label.moves") if each.text}
  assert moving == {"orange", "blue <b>", "ant", "a … that is not …"}


def test_a_click_on_a_word_of_the_caption_takes_the_next_one(opened):
  opened.all("#caption button")[1].click()
  assert state(opened)[:2] == ("a red clock in the shape of a cat", 1)
  opened.all("#caption button")[1].click()
  assert state(opened)[:2] == ("a blue <b> clock in the shape of an ant", 3)
  opened.all("#caption button")[1].click()
  assert state(opened)[:2] == ("a red clock in the shape of a hexagon", 0)


def test_another_wording_has_its_own_slots(opened):
  pick(opened, "thing", "cat")
  assert opened.texts("fieldset:not([hidden]) legend") == ["wording", "colour", "thing"]
  assert not opened.all("#ours")[0].is_displayed()
  pick(opened, "wording", "a … that is not …")
  assert state(opened)[:2] == ("a cat that is not a clock", 4)
  assert opened.texts("fieldset:not([hidden]) legend") == ["wording", "thing"]
  assert opened.texts("#caption button") == ["cat"]
  assert opened.all("#ours")[0].is_displayed()
  pick(opened, "thing", "hexagon")
  assert state(opened)[:2] == ("a red clock in the shape of a hexagon", 0)


def test_it_can_be_used_by_keys_alone(opened):
  from selenium.webdriver.common.keys import Keys

  buttons = opened.all("#caption button")
  opened.driver.execute_script("arguments[0].focus()", buttons[1])
  opened.press(Keys.ENTER)
  assert state(opened)[:2] == ("a red clock in the shape of a cat", 1)
  assert opened.driver.switch_to.active_element.text == "cat"  # so that the next key goes on from there
  for _ in range(2):
    opened.press(Keys.TAB)  # the wordings, then the colours
  opened.press(Keys.ARROW_RIGHT)
  assert state(opened)[:2] == ("an orange clock in the shape of a cat", 2)


def test_a_link_leads_to_the_caption_that_was_shown(opened):
  pick(opened, "thing", "cat")
  address = opened.driver.current_url
  opened.driver.get("about:blank")
  opened.driver.get(address)
  assert state(opened)[:2] == ("a red clock in the shape of a cat", 1)


@pytest.mark.parametrize(
  "suite",
  [pytest.param(suite, id=suite.name, marks=[pytest.mark.slow] if i % 3 else []) for i, suite in enumerate(SUITES)],
)
def test_no_suites_page_is_wider_than_a_small_phone(chromium, tmp_path, suite):
  drawn = [(each.template, *(word.text for word in each.words)) for each in subset(suite, 12, 0)]
  chromium.resize(320, 800)
  chromium.open(write(tmp_path, drawn, suite, pictures=1))
  for _ in drawn:
    assert chromium.driver.execute_script("return document.documentElement.scrollWidth") <= 320
    chromium.all("#caption button")[-1].click()


def test_it_is_dark_where_the_reader_wants_that(opened):
  def paper():
    return opened.driver.execute_script("return getComputedStyle(document.body).backgroundColor")

  before = paper()
  opened.prefer("dark")
  assert before != paper()
