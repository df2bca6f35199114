import html.parser
import json

import numpy as np
import pytest
from PIL import Image

from dalle_jax.errors import UserError
from dalle_jax.sampling.gallery import Sample, contact_sheet, enlarge, slug, write_gallery


def picture(seed, side=32):
  return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def sample(caption="a red <b>circle</b>", number=0, index=0, score=0.25):
  return Sample(
    caption=caption,
    caption_number=number,
    sample=index,
    seed=3,
    codes_N=np.arange(4, dtype=np.int32) + index,
    score=score,
    image_HWC=picture(index),
  )


class Links(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.found, self.tags = [], set()

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.found += [value for name, value in attrs if name in ("src", "href")]


def test_a_small_picture_is_enlarged_pixel_by_pixel():
  image = picture(0)
  large = enlarge(image, 100)
  assert large.shape == (128, 128, 3)
  np.testing.assert_array_equal(large[::4, ::4], image)
  np.testing.assert_array_equal(large[3::4, 3::4], image)
  assert enlarge(picture(0, 256)).shape == (256, 256, 3)


def test_the_sheet_holds_every_picture_where_its_row_and_column_say():
  images = [picture(i) for i in range(5)]
  sheet = np.asarray(contact_sheet(images, ["a long label that will not fit"] * 5, columns=3, least=64))
  found = [(y, x) for y in range(sheet.shape[0] - 64) for x in (8, 80, 152) if (sheet[y, x] != 255).any()]
  second_row = next(y for y, x in found if y > 72 + 17 and (sheet[y : y + 64, 8:72] == enlarge(images[3], 64)).all())
  np.testing.assert_array_equal(sheet[8:72, 80:144], enlarge(images[1], 64))
  np.testing.assert_array_equal(sheet[second_row : second_row + 64, 80:144], enlarge(images[4], 64))


def test_a_sheet_wants_a_label_for_every_picture():
  with pytest.raises(ValueError, match="wanted as many of both"):
    contact_sheet([picture(0)], [])


def test_every_link_of_the_gallery_leads_to_a_file_in_it(tmp_path):
  samples = [sample(index=i, score=0.5 - i / 10) for i in range(3)] + [sample("日本", 1, 0, None)]
  page = write_gallery(tmp_path / "out", samples, title="drawn", about={"experiment": "abc"})
  links = Links()
  links.feed(page.read_text())
  assert links.found
  assert all((page.parent / link).is_file() for link in links.found)
  assert not links.tags & {"script", "link", "b"}
  rows = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
  assert [(row["caption_number"], row["sample"], row["score"]) for row in rows] == [
    (0, 0, 0.5),
    (0, 1, 0.4),
    (0, 2, 0.3),
    (1, 0, None),
  ]
  assert rows[1]["codes"] == [1, 2, 3, 4]
  assert {row["experiment"] for row in rows} == {"abc"}
  np.testing.assert_array_equal(Image.open(tmp_path / "out" / rows[2]["file"]), picture(2))


def test_each_picture_s_attention_maps_stand_beside_it_and_are_linked(tmp_path):
  samples = [sample(index=i) for i in range(2)]
  maps = lambda group: (Image.new("RGB", (3, 2), (each.sample, 0, 0)) for each in group)  # noqa: E731
  page = write_gallery(tmp_path, samples, title="drawn", about={}, attention=maps)
  links = Links()
  links.feed(page.read_text())
  for i in range(2):
    file = f"000-a-red-b-circle-b/0{i}-attention.png"
    assert file in links.found
    assert Image.open(tmp_path / file).getpixel((0, 0)) == (i, 0, 0)
  write_gallery(tmp_path, samples, title="drawn", about={})
  assert not (tmp_path / "000-a-red-b-circle-b/00-attention.png").exists()


def test_what_an_earlier_call_drew_is_removed_and_nothing_else(tmp_path):
  write_gallery(tmp_path, [sample(), sample(index=1), sample("blue", number=1)], title="t", about={})
  (tmp_path / "mine").mkdir()
  (tmp_path / "000-of-mine").mkdir()
  write_gallery(tmp_path, [sample()], title="t", about={})
  folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
  assert folders == ["000-a-red-b-circle-b", "000-of-mine", "mine"]
  assert sorted(path.name for path in (tmp_path / folders[0]).iterdir()) == ["00.png", "sheet.png"]


@pytest.mark.parametrize("text", ["no json", '{"files": 3}', "[]", '{"file": "../mine/00.png"}'])
def test_samples_that_are_not_ours_remove_nothing(tmp_path, text):
  (tmp_path / "out/mine").mkdir(parents=True)
  (tmp_path / "mine").mkdir()
  (tmp_path / "out/samples.jsonl").write_text(text)
  write_gallery(tmp_path / "out", [sample()], title="t", about={})
  assert (tmp_path / "mine").is_dir()
  assert (tmp_path / "out/mine").is_dir()


def test_captions_become_file_names():
  assert slug("A red circle / ../ left of…") == "a-red-circle-left-of"
  assert slug("日本") == "picture"
  assert len(slug("word " * 40)) <= 48


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write pictures to"):
    write_gallery(tmp_path / "file", [sample()], title="drawn", about={})
