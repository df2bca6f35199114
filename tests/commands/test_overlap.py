"""`dalle data overlap`: copies that were put among the evaluation pictures are found, and nothing else."""

import io
import json
import re

import numpy as np
import pytest
import tiny_run
from PIL import Image, ImageEnhance

from dalle_jax import cli, overlap
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.evaluation import exclusion, overlap_page, picture_sets
from dalle_jax.evaluation.overlap import thumbnails


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """Prepared scenes; and two folders of other pictures, the second with three spoilt copies of the first's."""
  directory = tmp_path_factory.mktemp("place")
  prepare(Scenes(Config(image=16, train=12, valid=2, test=6, test_pairs=2)), directory / "data")
  rng = np.random.default_rng(0)
  for folder, count in (("seen", 20), ("asked", 7)):
    (directory / folder).mkdir()
    for i in range(count):
      coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
      Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(directory / folder / f"{i:02d}.png")
  for number, spoil in ((4, smaller), (9, jpeg), (17, brighter)):
    with Image.open(directory / f"seen/{number:02d}.png") as image:
      spoil(image).save(directory / f"asked/copy-of-{number:02d}.png")
  return directory


def smaller(image):
  return image.resize((30, 30))


def jpeg(image):
  file = io.BytesIO()
  image.save(file, "JPEG", quality=40)
  return Image.open(file)


def brighter(image):
  return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(1.1)).enhance(0.7)


def dalle(place, monkeypatch, *argv):
  monkeypatch.chdir(place)
  return cli.main(["data", "overlap", *map(str, argv)])


def test_spoilt_copies_are_listed_with_what_they_are_copies_of(place, monkeypatch, capfd, tmp_path):
  out = tmp_path / "found"
  assert dalle(place, monkeypatch, "seen", "asked", "--threshold", 0.9, "--out", out) == 0
  printed = capfd.readouterr().out
  assert "3 of 10 evaluation pictures (30.0 %) have a training picture of cosine 0.9 or more" in printed
  assert printed.endswith(f"{out}/index.html\n")
  found = exclusion.read(out / "exclude.json")
  assert {each.key: each.nearest for each in found.excluded} == {
    "copy-of-04.png": "04.png",
    "copy-of-09.png": "09.png",
    "copy-of-17.png": "17.png",
  }
  assert found.evaluation["pictures"] == 10
  assert found.training["digest"] == picture_sets.opened(str(place / "seen"), overlap.trained_on).digest
  page = (out / "index.html").read_text()
  before, after = page.split('<p class="threshold">')
  assert all(f"copy-of-{number}.png" in before for number in ("04", "09", "17"))
  assert "copy-of" not in after
  links = re.findall(r'(?:src|srcset|href)="([^"]+)"', page)
  assert len(links) > 20
  assert all((out / link).is_file() for link in links)
  rows = [line.split("\t") for line in (out / "neighbours.tsv").read_text().splitlines()]
  assert len(rows) == 11
  assert sum(float(row[1]) >= 0.9 for row in rows[1:]) == 3


def test_another_threshold_does_not_look_again(place, monkeypatch, capfd, tmp_path):
  out = tmp_path / "found"
  assert dalle(place, monkeypatch, "seen", "asked", "--out", out) == 0
  printed = capfd.readouterr()
  assert "no threshold was given, so no list was written" in printed.out
  assert "training pictures: 20" in printed.err
  assert not (out / "exclude.json").exists()
  assert dalle(place, monkeypatch, "seen", "asked", "--threshold", 0.2, "--out", out) == 0
  printed = capfd.readouterr()
  assert "neighbours are those that an earlier call found" in printed.err
  assert "training pictures: 20" not in printed.err
  few = len(exclusion.read(out / "exclude.json").excluded)
  assert few > 3
  # Of other pictures they are looked for.
  assert dalle(place, monkeypatch, "data", "asked", "--out", out) == 0
  assert "training pictures: 12" in capfd.readouterr().err
  assert not (out / "exclude.json").exists()
  assert not list(tmp_path.glob(".found*"))


def test_the_splits_of_prepared_data_are_taken_and_their_list_fits_them(place, monkeypatch, capfd, tmp_path):
  assert dalle(place, monkeypatch, "data", "data", "--threshold", 0.5, "--out", tmp_path / "a") == 0
  assert "training    data, split train\nevaluation  data, split test\n" in capfd.readouterr().out
  assert dalle(place, monkeypatch, "data:valid", "data:train", "--threshold", 0.5, "--out", tmp_path / "b") == 0
  prepared = open_prepared(place / "data")
  found = exclusion.read(tmp_path / "a/exclude.json")
  keep_N = exclusion.keep(found, prepared, "test")
  assert len(keep_N) == 6
  assert (~keep_N).sum() == len(found.excluded)
  assert exclusion.read(tmp_path / "b/exclude.json").evaluation["split"] == "train"


def test_a_run_s_clip_compares_too(place, monkeypatch, capfd, tmp_path):
  run = tiny_run.workdir(tmp_path / "run", ["a red circle", "a blue square"])
  out = tmp_path / "found"
  assert dalle(place, monkeypatch, "seen", "asked", "--by", run.path, "--threshold", 0.999, "--out", out) == 0
  found = exclusion.read(out / "exclude.json")
  assert found.embedding == {"name": "tiny's CLIP", "weights": run.weights("clip")[1], "size": 16}
  assert found.embedding["weights"] in (out / "index.html").read_text()


def test_flat_pictures_are_all_alike_and_like_no_other():
  rng = np.random.default_rng(0)
  flat_NHWC = np.stack([np.full((16, 16, 3), value, np.uint8) for value in (0, 128, 255)])
  vectors_NE = thumbnails().embed(np.concatenate([flat_NHWC, rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)]))
  unit_NE = vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)
  cosine_NN = unit_NE @ unit_NE.T
  np.testing.assert_allclose(cosine_NN[:3, :3], 1, atol=1e-6)
  assert (cosine_NN[3, :3] < 0.1).all()


@pytest.mark.parametrize(
  ("threshold", "count", "expected"),
  [
    (0.65, 4, [8, 7, 6, 5]),
    (0.95, 4, [9, 8, 7, 6]),
    (1.0, 4, [9, 8, 7, 6]),
    (0.01, 4, [3, 2, 1, 0]),
    (0.15, 6, [5, 4, 3, 2, 1, 0]),
    (0.5, 20, list(range(9, -1, -1))),
    (None, 4, [9, 8, 7, 0]),
  ],
)
def test_what_is_shown_stands_about_the_threshold(threshold, count, expected):
  cosine_N = np.arange(10) / 10
  assert overlap_page.chosen(cosine_N, threshold, count).tolist() == expected


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["seen"], "got seen, wanted two sets of pictures: dalle data overlap TRAINING EVALUATION"),
    (["--out", "o"], "got nothing, wanted two sets of pictures"),
    (["seen", "nowhere", "--out", "o"], "no pictures at nowhere: wanted a prepared data set"),
    (["seen", "asked"], "--out"),
    (["seen", "asked:test", "--out", "o"], "asked is a folder of pictures, which has no splits: leave out :test"),
    (["data", "data:tset", "--out", "o"], "data has no split 'tset'; it has train"),
    (["data:test", "data", "--out", "o"], "are the same pictures: each would be its own duplicate"),
    (["seen", "asked", "--out", "o", "--threshold", "1.5"], "got --threshold 1.5, wanted a cosine above 0"),
    (["seen", "asked", "--out", "o", "--pairs", "0"], "got --pairs 0, wanted at least 1"),
    (["seen", "asked", "--out", "o", "--by", "seen"], "seen is not a workdir"),
    (["seen", "asked", "--out", "data"], "data holds something already"),
  ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(place, monkeypatch, capfd, argv, says):
  before = sorted(place.iterdir())
  assert dalle(place, monkeypatch, *argv) == 2
  printed = capfd.readouterr()
  assert says in printed.err
  assert printed.err.splitlines()[-1].startswith("dalle: ")
  assert "Traceback" not in printed.err
  assert sorted(place.iterdir()) == before


def test_the_record_says_what_was_compared(place, monkeypatch, capfd, tmp_path):
  assert dalle(place, monkeypatch, "seen", "asked", "--out", tmp_path / "o", "--neighbours", 2) == 0
  capfd.readouterr()
  record = json.loads((tmp_path / "o/overlap.json").read_text())
  assert record["embedding"]["name"] == "thumbnails of 16x16"
  assert record["neighbours"] == 2
  assert record["training"]["pictures"] == 20
