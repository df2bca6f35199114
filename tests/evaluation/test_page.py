import dataclasses
import html.parser
import json

import numpy as np
import pytest
from PIL import Image

from dalle_jax.errors import UserError
from dalle_jax.evaluation import page, results
from dalle_jax.evaluation.composition import Judged
from dalle_jax.evaluation.reconstruction import Reconstruction
from dalle_jax.evaluation.report import Protocol, Report, Shown
from dalle_jax.evaluation.retrieval import Retrieved
from dalle_jax.sampling.choose import SamplingConfig

RNG = np.random.default_rng(0)


def picture():
  return RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def shown(caption, split="test", right=(True, False)):
  images = np.stack([picture(), picture()])
  scores = np.array([0.5, 0.25], np.float32)
  right = None if right is None else np.array(right)
  return Shown(split=split, caption=caption, truth_HWC=picture(), images_KHWC=images, scores_K=scores, right_K=right)


def judged(split="test"):
  right = RNG.random((12, 4)) < 0.5
  return Judged(
    split=split,
    objects_C=np.arange(12) % 3 + 1,
    scores={by: RNG.random((12, 4)).astype(np.float32) for by in ("CLIP", "likelihood")},
    right=dict.fromkeys(("all", "count", "shape", "colour", "size", "texture", "relation", "background"), right),
    chance_C=np.full(12, 0.25),
    ceiling_C=np.ones(12, bool),
    truth_C=np.ones(12, bool),
  )


FULL = Report(
  split="test",
  protocol=Protocol(captions=12, samples=4),
  losses={"dvae": {"loss": -1.25}, "transformer": {"loss": 2.5, "loss_image": 2.0}},
  reconstruction=Reconstruction(pictures=9, psnr=27.5, psnr_mean_picture=11.25, counts_V=np.array([4, 0, 3, 3])),
  pairs_2NHWC=np.stack([np.stack([picture(), picture()]), np.stack([picture(), picture()])]),
  composition=(judged(), judged("test_pairs")),
  retrieval=(Retrieved(split="train", pictures="best of 4 by CLIP", ranks_C=np.array([1, 50]), candidates=80),),
  shown=(shown("a <b>red</b> circle"), shown("a cross", "test_pairs", None)),
  ranked=("CLIP", "likelihood"),
)
ROWS = [{"step": step, "loss": 3 / step, "loss_image": None if step == 1 else 2.0} for step in (1, 10, 20)]


class Page(html.parser.HTMLParser):
  def __init__(self, text):
    super().__init__()
    self.links, self.tags, self.texts, self.order = [], [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [value for name, value in attrs if name in ("src", "srcset", "href")]

  def handle_data(self, data):
    self.texts.append(data.strip())


def write(out, report=FULL, **kwargs):
  default = {"title": "What it draws", "curves": {"dvae": ROWS, "clip": []}, "times": [("dvae", 61.0), ("clip", 2.5)]}
  default["goodput"] = {"dvae": {"steps": 90.0, "steps done again": 4.0, "down": 6.0, "saving": 0.0}, "clip": {}}
  path = page.write(out, report, config="seed = <0>", **(default | kwargs))
  return path, Page(path.read_text())


@pytest.fixture(scope="module")
def full(tmp_path_factory):
  return write(tmp_path_factory.mktemp("workdir"))


def test_where_the_time_went_is_told_with_what_cost_most_first(full):
  text = full[0].read_text()
  assert "Where the time of all starts went" in text
  assert "90.0 %" in text
  assert "down 6.0 s, steps done again 4.0 s" in text
  assert "saving 0" not in text


def test_it_is_one_file_and_the_pictures_beside_it(full):
  path, parsed = full
  assert path.name == "index.html"
  assert parsed.links
  assert all(link.startswith("page/") and (path.parent / link).is_file() for link in parsed.links)
  assert not {"script", "link", "b>red"} & set(parsed.tags)


def test_pictures_come_before_numbers_and_the_best_before_the_rest(full):
  path, parsed = full
  assert parsed.tags.index("img") < parsed.tags.index("table")
  drawn = [link for link in parsed.links if link.startswith("page/000-")]
  assert drawn[0] == "page/000-0.png"
  np.testing.assert_array_equal(Image.open(path.parent / "page/000-0.png"), FULL.shown[0].images_KHWC[0])
  np.testing.assert_array_equal(Image.open(path.parent / "page/000-true.png"), FULL.shown[0].truth_HWC)
  np.testing.assert_array_equal(Image.open(path.parent / "page/decoded-01.png"), FULL.pairs_2NHWC[1, 1])


def test_the_page_says_how_it_was_drawn_and_what_ranked(tmp_path):
  sampling = SamplingConfig(temperature=0.9, top_k=5, guidance=3.0)
  found = dataclasses.replace(
    FULL, protocol=dataclasses.replace(FULL.protocol, sampling=sampling), ranked=("likelihood",)
  )
  path, _ = write(tmp_path, found)
  said = "4 samples of each, ranked by likelihood, temperature 0.9, the 5 most likely tokens, guidance 3."
  assert said in path.read_text()


def test_every_part_of_the_report_is_on_the_page(full):
  texts = full[1].texts
  for text in (
    "a <b>red</b> circle", "0.500", "27.50 dB", "11.25 dB", "3", "best of 4 by CLIP", "chance: captions shuffled",
    "ceiling: dVAE's reconstructions", "train: best of 4 by CLIP", "loss image", "2.5", "1:01", "1:04", "seed = <0>",
  ):  # fmt: skip
    assert text in texts, text
  assert {"best-of-n-0-light.png", "best-of-n-1-dark.png", "codes-dark.png", "loss-dvae-light.png"} <= {
    file.name for file in (full[0].parent / "page").iterdir()
  }


def test_a_report_of_one_stage_has_only_its_sections(tmp_path):
  (tmp_path / "page").mkdir()
  (tmp_path / "page" / "old.png").write_text("from a page written before")
  bare = Report(split="valid", protocol=Protocol(), losses={"dvae": {"loss": 1.0}})
  path, parsed = write(tmp_path, bare, curves={}, times=[], goodput={})
  assert "img" not in parsed.tags
  assert "loss" in parsed.texts
  assert not (tmp_path / "page" / "old.png").exists()
  assert path.is_file()


def test_the_numbers_are_json_and_text():
  value = json.loads(json.dumps(results.to_json(FULL)))
  assert value["reconstruction"] == {
    "pictures": 9, "psnr": 27.5, "psnr_mean_picture": 11.25, "codes": 4, "codes_used": 3,
    "code_perplexity": pytest.approx(2.97, abs=0.01),
  }  # fmt: skip
  assert value["best_of_n"]["test"]["likelihood"]["1"]["of"] == 12
  assert value["retrieval"][0]["within_10"]["rate"] == 0.5
  assert value["protocol"]["sampling"]["temperature"] == 1.0
  text = results.as_text(FULL)
  for words in ("PSNR 27.50 dB (the mean picture 11.25)", "3 of 4 codes used", "ceiling", "among the 10 nearest of 80"):
    assert words in text


def test_durations_read_like_a_clock():
  assert [page.duration(s) for s in (4.51, 61, 3723)] == ["4.5 s", "1:01", "1:02:03"]


def test_a_folder_that_cannot_be_written_is_the_users_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write the page to"):
    write(tmp_path / "file")
