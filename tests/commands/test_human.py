"""`dalle human`: the forms of two sources, and the table of what was answered."""

import json

import numpy as np
import pytest
import tiny_run
from PIL import Image

from dalle_jax import cli
from dalle_jax.evaluation import human_score


@pytest.fixture
def place(tmp_path, monkeypatch):
  """Captions and two folders of pictures of them, the second without the last one's."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "captions.txt").write_text("a red circle\na blue square\n")
  for folder, count in (("one", 2), ("two", 2), ("few", 1)):
    (tmp_path / folder).mkdir()
    for i in range(count):
      Image.new("RGB", (8, 8), (len(folder) * i, 9, 9)).save(tmp_path / folder / f"{i}.png")
  return tmp_path


def dalle(*argv):
  return cli.main(["human", *map(str, argv)])


def test_forms_are_made_and_scored(place, capfd):
  assert dalle("make", "one", "two", "--captions", "captions.txt", "--out", "sheet", "--workers", 3) == 0
  assert capfd.readouterr().out == "sheet/form\n"
  assert sorted(file.name for file in (place / "sheet/form").glob("*.html")) == [f"worker-{i}.html" for i in (1, 2, 3)]
  key = human_score.read_key("sheet")
  letters = [{pair["x"]: "x", pair["y"]: "y"} for pair in key.pairs]
  for worker, names in ((1, ("one", "one")), (2, ("one", "two")), (3, ("two", "two"))):
    rows = [
      {"pair": i, "realistic": letters[i][name], "matches": "neither", "seconds": 5.0} for i, name in enumerate(names)
    ]
    (place / f"{worker}.json").write_text(json.dumps({"sheet": key.sheet, "worker": worker, "answers": rows}))
  assert dalle("score", "sheet", "1.json", "2.json", "3.json") == 0
  printed = capfd.readouterr().out
  assert "one                                      50.0 % [9.5, 90.5]" in printed
  assert "neither                                  100.0 %" in printed
  assert "0: 0, 1: 1, 2: 1, 3: 0" in printed
  assert printed.endswith("sheet/scores/index.html\n")
  assert dalle("score", "sheet", "1.json", "2.json", "3.json", "--without", 3) == 0
  assert "2 of 3 forms" in capfd.readouterr().out
  told = json.loads((place / "sheet/scores/human.json").read_text())
  assert told["left out"] == [3]
  assert told["results"][0]["votes"] == [0, 1, 1]
  assert "Left out by hand: form 3." in (place / "sheet/scores/index.html").read_text()
  assert (place / "sheet/scores/votes-0-light.png").is_file()


@pytest.mark.slow
def test_a_run_draws_and_what_was_sampled_is_found_by_its_caption(place, capfd):
  tiny_run.workdir(place / "run", ["a red circle", "a blue square"])
  assert (
    cli.main(["sample", "run", "a blue square", "a red circle", "--num", "4", "--keep", "2", "--out", "drawn"]) == 0
  )
  sheet = ["--captions", "captions.txt", "--num", 4, "--out"]
  assert dalle("make", "run", "drawn", *sheet, "sheet") == 0
  key = human_score.read_key("sheet")
  assert [pair["caption"] for pair in key.pairs] == ["a red circle", "a blue square"]
  rows = [json.loads(line) for line in (place / "drawn/samples.jsonl").read_text().splitlines()]
  for number, pair in enumerate(key.pairs):
    best = next(row["file"] for row in rows if row["caption"] == pair["caption"])
    letter = next(letter for letter in "xy" if pair[letter] == "drawn")
    pixels = [
      np.asarray(Image.open(file))
      for file in (place / "drawn" / best, place / f"sheet/form/pictures/{number:04d}-{letter}.png")
    ]
    np.testing.assert_array_equal(*pixels)
  assert dalle("make", "run", "one", *sheet, "less", "--limit", 1) == 0
  assert len(human_score.read_key("less").pairs) == 1


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["mak"], "no command 'human mak'; did you mean 'make'?"),
    (["make", "one"], "got one, wanted two sources of pictures"),
    (["make", "one", "nowhere", "--captions", "captions.txt", "--out", "o"], "no pictures at nowhere"),
    (["make", "one", "few", "--captions", "captions.txt", "--out", "o"], "got 1 pictures in few for 2 captions"),
    (["make", "one", "one", "--captions", "captions.txt", "--out", "o"], "got the names one and one"),
    (["make", "one", "two", "--captions", "no.txt", "--out", "o"], "cannot read the captions no.txt"),
    (["make", "one", "two", "--captions", "twice.txt", "--out", "o"], "has the caption 'a' twice"),
    (["make", "one", "two", "--captions", "captions.txt", "--out", "one"], "one holds something already"),
    (["make", "one", "two", "--captions", "captions.txt", "--out", "o", "--workers", "0"], "got --workers 0"),
    (["score", "one"], "no answers given"),
    (["score", "one", "no.json"], "no answers at no.json"),
    (["score", "one", "captions.txt"], "cannot read one/key.json"),
  ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(place, capfd, argv, says):
  (place / "twice.txt").write_text("a\na\n")
  before = sorted(place.rglob("*"))
  assert dalle(*argv) == 2
  printed = capfd.readouterr()
  assert printed.out == ""
  assert says in printed.err
  assert printed.err.splitlines()[-1].startswith("dalle: ")
  assert sorted(place.rglob("*")) == before
