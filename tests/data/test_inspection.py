import html.parser
import io
import json

import numpy as np
import pytest
from PIL import Image

from dalle_jax import inspect_page
from dalle_jax.data import inspection
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.prepare import prepare
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import UserError

WORDS = ("a red circle", "a blue square on a green cross", "two <b>hearts</b>")


def png(i, side=8):
  file = io.BytesIO()
  Image.new("RGB", (side, side), (i, 0, 0)).save(file, "PNG")
  return file.getvalue()


class Given:
  name = "given"
  splits = ("train", "valid")

  def examples(self, split):
    if split == "train":
      yield from (Dropped(key=f"{i}.txt", reason="caption without picture", detail="in captions.tsv") for i in range(5))
    for i in range(40 if split == "train" else 10):
      long = (" ".join(["circle"] * 30),) if i == 7 else ()
      yield Raw(key=f"{split}-{i}", image=png(i, 300 if i == 3 else 8), captions=(WORDS[i % 3], *long))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  out = tmp_path_factory.mktemp("prepared") / "out"
  prepare(Given(), out)
  return out


@pytest.fixture(scope="module")
def found(directory):
  return inspection.inspect(directory, TokenizerConfig(vocab=400, length=24))


def test_captions_that_are_cut_are_counted(found):
  assert len(found.tokens.lengths_C) == 52
  assert found.tokens.limit == 23
  assert found.tokens.lengths_C.max() >= 30 + 29  # thirty words and the spaces between them
  assert found.tokens.truncated == (found.tokens.lengths_C > 23).sum() >= 2


def test_as_many_tokens_as_are_read_are_not_cut():
  tokens = inspection.Tokens(lengths_C=np.array([22, 23, 24], np.int32), limit=23, vocab=300)
  assert tokens.truncated == 1
  assert "1 of 3 captions (33 %) are cut to 23" in inspection.tokens_text(tokens)


def test_the_text_tells_counts_sizes_lengths_and_what_was_left_out(found):
  text = inspection.as_text(found)
  for words in (
    "given: train 40, valid 10",
    "8 to 300 (median 8) x 8 to 300",
    "1 to 2 (median 1) a picture",
    "left out  5: caption without picture 5",
    "caption without picture: 0.txt (in captions.tsv)",
    "captions (",
    "are cut to 23",
  ):
    assert words in text
  assert text.count("(in captions.tsv)") == inspection.SHOWN


def test_captions_that_train_no_tokenizer_are_still_inspected(directory, monkeypatch):
  def refuse(texts, cfg):
    raise UserError("no")

  monkeypatch.setattr(inspection.captions, "train", refuse)
  found = inspection.inspect(directory, TokenizerConfig(vocab=400))
  assert found.tokens is None
  assert "no tokenizer can be trained" in inspection.as_text(found)


def test_of_very_many_captions_some_are_tokenized(directory, monkeypatch):
  monkeypatch.setattr(inspection, "MOST", 10)
  found = inspection.inspect(directory, TokenizerConfig(vocab=400))
  assert 10 <= len(found.tokens.lengths_C) <= 14


def test_a_directory_without_its_report_is_one_line(directory, tmp_path):
  for file in directory.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  for content in ("{", "{}", '{"name": 3}', "[]"):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match=r"cannot read .*report\.json .*: prepare the data set anew"):
      inspection.inspect(tmp_path, TokenizerConfig())


class Page(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.sources, self.tags, self.text = [], [], ""

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.sources += [value for name, value in attrs if name in ("src", "href")]

  def handle_data(self, data):
    self.text += data


def test_the_page_shows_examples_of_each_split_in_one_file(found, tmp_path):
  file = inspect_page.write(tmp_path / "deep/page.html", found, examples=6)
  page = Page()
  page.feed(file.read_text())
  assert len(page.sources) == page.tags.count("img") == 12
  assert all(source.startswith("data:image/png;base64,") for source in page.sources)
  assert not {"script", "link", "b"} & set(page.tags)
  for words in ("two <b>hearts</b>", "caption without picture", "are cut to 23", "train", "valid"):
    assert words in page.text


def test_large_pictures_are_shrunk_for_the_page():
  large, small = (inspect_page.data_uri(np.zeros((side, side, 3), np.uint8)) for side in (1000, 16))
  assert len(large) < 4000
  assert small.startswith("data:image/png")


def test_bars_beyond_the_limit_are_marked():
  svg = inspect_page.histogram(np.array([1, 2, 2, 30, 40], np.int32), limit=29)
  assert svg.count("<rect") == 41
  assert svg.count('class="cut"') == 11
  assert "2 to 2 tokens: 2 captions" in svg


def test_a_page_that_cannot_be_written_is_one_line(found, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write the page"):
    inspect_page.write(tmp_path / "file/page.html", found, examples=1)


def test_the_report_is_read_by_other_programs_too(directory):
  report = json.loads((directory / "report.json").read_text())
  assert report["splits"] == {"train": 40, "valid": 10}
  assert report["dropped"] == {"caption without picture": 5}
