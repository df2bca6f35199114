"""The form for people, driven in headless Chromium, and what its answers add up to."""

import collections
import json
import re
import statistics

import browser
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from dalle_jax.errors import UserError
from dalle_jax.evaluation import human_score, human_sheet

CAPTIONS = ("a red circle", "two <b>cats</b> & a dog", "a blue square", "nothing")
NAMES = ("runs/ours", "theirs")


def pictures(value):
  """Recognisable by their colour; the caption's number is in their green."""
  return [np.full((8, 8, 3), (value, 20 * i, 0), np.uint8) for i in range(len(CAPTIONS))]


@pytest.fixture
def sheet(tmp_path):
  human_sheet.write(tmp_path, CAPTIONS, (pictures(10), pictures(200)), names=NAMES, workers=3, seed=1)
  return tmp_path


def data(sheet, worker):
  text = (sheet / f"form/worker-{worker}.html").read_text()
  return json.loads(re.search(r'id="sheet">(.*?)</script>', text)[1])


def owner(sheet, file):
  """Whose picture a file of the form is, by its colour."""
  with Image.open(sheet / "form" / file) as image:
    red, green, _ = image.getpixel((0, 0))
  return NAMES[0] if red == 10 else NAMES[1], green // 20


def test_the_key_alone_knows_whose_pictures_are_whose(sheet):
  key = human_score.read_key(sheet)
  for number, pair in enumerate(key.pairs):
    assert pair["caption"] == CAPTIONS[number]
    for letter in "xy":
      assert owner(sheet, human_sheet.file_of(number, letter)) == (pair[letter], number)
  for file in (sheet / "form").iterdir():
    if file.suffix == ".html":
      assert not [name for name in NAMES if name in file.read_text()]
  assert not (sheet / "form/key.json").exists()


def test_order_and_sides_are_drawn_and_drawn_again_the_same(tmp_path):
  many = [f"caption {i}" for i in range(200)]
  own = [[np.full((2, 2, 3), value, np.uint8)] * 200 for value in (0, 9)]
  for name, seed in (("a", 1), ("b", 1), ("c", 2)):
    human_sheet.write(tmp_path / name, many, own, names=NAMES, workers=2, seed=seed)
  pages = {name: [data(tmp_path / name, worker)["pairs"] for worker in (1, 2)] for name in "abc"}
  assert pages["a"] == pages["b"]
  assert pages["a"] != pages["c"]
  first, second = pages["a"]
  assert [each["pair"] for each in first] != [each["pair"] for each in second]
  assert sorted(each["pair"] for each in first) == list(range(200))
  key = human_score.read_key(tmp_path / "a")
  ours_left = sum(key.pairs[each["pair"]][each["left"]] == NAMES[0] for each in first)
  assert stats.binomtest(ours_left, 200).pvalue > 1e-3
  assert stats.binomtest(sum(each["left"] == "x" for each in first), 200).pvalue > 1e-3


def test_other_pictures_are_another_sheet(sheet, tmp_path):
  human_sheet.write(tmp_path / "again", CAPTIONS, (pictures(10), pictures(200)), names=NAMES, workers=3, seed=1)
  human_sheet.write(tmp_path / "other", CAPTIONS, (pictures(11), pictures(200)), names=NAMES, workers=3, seed=1)
  known = human_score.read_key(sheet).sheet
  assert human_score.read_key(tmp_path / "again").sheet == known
  assert human_score.read_key(tmp_path / "other").sheet != known


@pytest.fixture(scope="module")
def chromium():
  with browser.opened() as found:
    yield found


def press_through(chromium, choose):
  """Answers each pair as `choose` says of its caption; the files that were seen left and right, by caption."""
  seen = {}
  for _ in CAPTIONS:
    caption = chromium.texts("#caption")[0]
    seen[caption] = chromium.pictures(".pair img")
    for name, value in choose(caption).items():
      chromium.all(f'input[name="{name}"][value="{value}"]')[0].click()
    chromium.all("#next")[0].click()
  return seen


@pytest.mark.slow
def test_what_is_clicked_is_what_is_scored(sheet, chromium, tmp_path):
  said = {
    "a red circle": {"realistic": "left", "matches": "right"},
    "two <b>cats</b> & a dog": {"realistic": "right", "matches": "neither"},
    "a blue square": {"realistic": "left", "matches": "left"},
    "nothing": {"realistic": "right", "matches": "right"},
  }
  chromium.open(sheet / "form/worker-2.html")
  assert chromium.texts("legend") == [each.text for each in human_sheet.QUESTIONS]
  chromium.all("#next")[0].click()  # nothing is chosen yet: the page stays
  assert chromium.texts("#place") == ["Pair 1 of 4; 0 answered"]
  seen = press_through(chromium, said.get)
  assert chromium.texts("#place") == ["Pair 4 of 4; 4 answered"]
  assert chromium.all("#end")[0].is_displayed()
  chromium.open(sheet / "form/worker-2.html")  # answers are kept where the page is opened again
  assert chromium.texts("#place") == ["Pair 1 of 4; 4 answered"]
  chromium.check()
  where = {"behavior": "allow", "downloadPath": str(tmp_path)}
  chromium.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
  chromium.all("#save")[0].click()
  file = tmp_path / "answers-2.json"
  chromium.driver.implicitly_wait(0)
  for _ in range(200):
    if file.is_file() and file.read_text().endswith("}\n"):
      break
    chromium.wait("new Promise(done => setTimeout(() => done(true), 50))")
  (answers,) = human_score.read_answers(human_score.read_key(sheet), [file])
  assert answers.worker == 2
  for caption, sides in seen.items():
    number = CAPTIONS.index(caption)
    for question, side in said[caption].items():
      expected = side if side == "neither" else owner(sheet, sides[["left", "right"].index(side)])[0]
      assert answers.chosen[number][question] == expected
    assert [owner(sheet, each)[1] for each in sides] == [number, number]
  assert all(0 <= each < 60 for each in answers.seconds.values())


@pytest.mark.slow
def test_back_shows_what_was_answered_and_keys_are_enough(sheet, chromium):
  chromium.open(sheet / "form/worker-3.html")
  first = chromium.texts("#caption")
  chromium.all('input[name="realistic"][value="right"]')[0].click()
  chromium.press("\ue004")  # tab, to the next question
  chromium.press(" ")
  chromium.press("\ue007")  # enter
  assert chromium.texts("#place") == ["Pair 2 of 4; 1 answered"]
  assert not chromium.all("input:checked")
  chromium.all("#back")[0].click()
  assert chromium.texts("#caption") == first
  assert [each.get_attribute("value") for each in chromium.all("input:checked")] == ["right", "left"]
  for width, scheme in ((390, "dark"), (1200, "light")):
    chromium.resize(width, 800)
    chromium.prefer(scheme)
    assert chromium.driver.execute_script("return document.documentElement.scrollWidth") <= width
  chromium.check()


def answered(sheet, worker, rows):
  """A file as a form saves it: of each pair, for both questions, a source's name or neither."""
  key = human_score.read_key(sheet)
  letters = [{pair["x"]: "x", pair["y"]: "y", "neither": "neither"} for pair in key.pairs]
  answers = [
    {"pair": i, "realistic": letters[i][a], "matches": letters[i][b], "seconds": seconds}
    for i, (a, b, seconds) in rows.items()
  ]
  file = sheet / f"answers-{worker}.json"
  file.write_text(json.dumps({"sheet": key.sheet, "worker": worker, "answers": answers}))
  return file


@pytest.fixture
def many(tmp_path):
  """200 pairs that five people answered at random, the last of them not to the end."""
  own = [[np.full((1, 1, 3), value, np.uint8)] * 200 for value in (0, 9)]
  human_sheet.write(tmp_path, [str(i) for i in range(200)], own, names=NAMES, seed=3)
  rng = np.random.default_rng(0)
  told = []
  for worker in range(1, 6):
    count = 200 if worker < 5 else 150
    told.append(
      {
        i: (
          str(rng.choice(NAMES, p=[0.7, 0.3])),
          str(rng.choice([*NAMES, "neither"], p=[0.6, 0.25, 0.15])),
          float(rng.uniform(1, 9)),
        )
        for i in range(count)
      }
    )
  return tmp_path, told, [answered(tmp_path, worker, rows) for worker, rows in enumerate(told, 1)]


@pytest.mark.parametrize("question", [0, 1])
def test_majorities_votes_and_intervals_are_those_counted_by_hand(many, question):
  sheet, told, files = many
  key = human_score.read_key(sheet)
  people = human_score.read_answers(key, files)
  result = human_score.score(key, people)[question]
  decided = collections.Counter()
  votes = np.zeros(6, int)
  for i in range(200):
    said = [rows[i][question] for rows in told if i in rows]
    modes = statistics.multimode(said)
    decided[modes[0] if len(modes) == 1 else "no majority"] += 1
    if len(said) == 5:
      votes[said.count(NAMES[0])] += 1
  assert result.pairs == 200
  assert {name: share.right for name, share in result.shares.items() if share.right} == decided
  assert result.votes == tuple(votes)
  assert sum(result.votes) == 150
  share = result.shares[NAMES[0]]
  expected = stats.binomtest(decided[NAMES[0]], 200).proportion_ci(0.95, method="wilson")
  assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_who_disagrees_and_who_is_hasty_is_seen(many):
  sheet, _, files = many
  opposite = {NAMES[0]: NAMES[1], NAMES[1]: NAMES[0]}
  agreed = {i: (NAMES[i % 2], NAMES[i % 2], 9.0) for i in range(200)}
  files[0] = answered(sheet, 1, {i: (opposite[NAMES[i % 2]], "neither", 2.0) for i in range(200)})
  files[1:4] = [answered(sheet, worker, agreed) for worker in (2, 3, 4)]
  found = human_score.workers(human_score.read_answers(human_score.read_key(sheet), files[:4]))
  assert [each.agreement["realistic"].rate for each in found] == [0.0, 1.0, 1.0, 1.0]
  assert [each.hasty for each in found] == [1.0, 0.0, 0.0, 0.0]
  assert [each.median_seconds for each in found] == [2.0, 9.0, 9.0, 9.0]
  alone = human_score.workers(human_score.read_answers(human_score.read_key(sheet), files[:1]))
  assert alone[0].agreement == {"realistic": None, "matches": None}


def test_a_tie_has_no_majority():
  assert human_score.majority(["a", "a", "b"]) == "a"
  assert human_score.majority(["a", "b"]) is None
  assert human_score.majority(["a", "a", "b", "b", "c"]) is None
  assert human_score.majority([]) is None


def spoilt(text, **changes):
  return json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
  ("spoil", "says"),
  [
    (lambda text: "[", "is no JSON"),
    (lambda text: "[]", "holds no answers"),
    (lambda text: spoilt(text, sheet="other"), r"answers another sheet \(other, this is "),
    (lambda text: text.replace('"realistic": "x"', '"realistic": "neither"'), "answers 'neither' to 'Which picture"),
    (lambda text: spoilt(text, answers=[{"pair": 9}]), "answers pair 9, and there are 4"),
    (lambda text: spoilt(text, answers=[{"pair": 1}]), "is damaged"),
  ],
)
def test_what_is_no_answer_is_one_line(sheet, spoil, says):
  key = human_score.read_key(sheet)
  file = answered(sheet, 1, {0: (key.pairs[0]["x"], NAMES[0], 5.0)})
  human_score.read_answers(key, [file])
  file.write_text(spoil(file.read_text()))
  with pytest.raises(UserError, match=says):
    human_score.read_answers(key, [file])


def test_a_person_counts_once(sheet):
  file = answered(sheet, 1, {0: (NAMES[0], NAMES[0], 5.0)})
  with pytest.raises(UserError, match="are both of form 1"):
    human_score.read_answers(human_score.read_key(sheet), [file, file])
