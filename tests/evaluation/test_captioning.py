"""Captions judged: right ones, wrong ones and those that say nothing that can be judged, by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import captioned_scenes, scenes
from dalle_jax.evaluation import captioning, page, results
from dalle_jax.evaluation.report import Protocol, Report

WRONG = "a small solid cyan heart inside a large striped pink square on gray"


@pytest.fixture(scope="module")
def pictures():
  config = captioned_scenes.Config(image=32)
  rows = [captioned_scenes.make_example(config, "train", i) for i in range(12)]
  images = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows])
  own = [(row["captions"][0], scenes.claims_of(row["attributes"])[0]) for row in rows]
  second = [row["captions"][1] for row in rows]
  assert WRONG not in [text for text, _ in own]
  return images, own, second


@pytest.fixture(scope="module")
def written(pictures):
  """Of each picture the data's other caption, one of another picture, and no sentence; the first scores best."""
  images, own, second = pictures
  texts = [[text, WRONG, "red circle a"] for text in second]
  return captioning.judge_split("test", images, own, texts, np.tile([-0.1, -0.2, -0.3], (len(own), 1)))


def test_what_the_data_says_is_right_and_what_is_no_sentence_is_not(written):
  assert written.right["all"].mean(0).tolist() == [1.0, 0.0, 0.0]
  assert written.right["form"].mean(0).tolist() == [1.0, 1.0, 0.0]
  assert written.right["colour"][:, 2].sum() == 0
  assert 0 < written.right["background"][:, 1].mean() < 1  # some backgrounds are gray
  assert written.own_C.all()
  assert written.chance_C.mean() < 0.3
  assert [each.right for each in written.shown] == [True] * 12


def test_the_best_by_score_is_the_one_that_counts(pictures):
  images, own, second = pictures
  texts = [[WRONG, text] for text in second]
  liked, disliked = (
    captioning.judge_split("test", images, own, texts, np.tile(scores, (12, 1))) for scores in ([0.0, 1.0], [1.0, 0.0])
  )
  rates = lambda written, n: written.best_of(n).mean()  # noqa: E731
  assert (rates(liked, 1), rates(liked, 2)) == (0.5, 1.0)
  assert (rates(disliked, 1), rates(disliked, 2)) == (0.5, 0.0)
  assert [each.text for each in disliked.shown] == [WRONG] * 12


def test_the_table_the_text_and_the_page_hold_the_figures(written, tmp_path):
  rows = captioning.table(written, ns=(1, 3, 8))
  assert [row.pictures for row in rows] == [
    "single caption",
    "best of 3 by likelihood",
    "chance: captions shuffled",
    "the data's own captions",
  ]
  assert rows[1].by_objects["all"].rate == 1.0
  assert rows[0].by_objects["all"].rate == pytest.approx(1 / 3)
  report = Report(split="test", protocol=Protocol(), losses={}, written=written)
  assert "the data's own captions" in results.as_text(report)
  found = results.to_json(report)["captions"]
  assert found["aspects"]["form"]["single caption"]["rate"] == pytest.approx(2 / 3)
  file = page.write(tmp_path, report, title="t", curves={}, times=[], goodput={}, config="")
  text = file.read_text()
  assert text.count('src="page/written-') == 12
  assert written.shown[0].text in text
  assert (tmp_path / "page/written-00.png").is_file()
