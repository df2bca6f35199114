import json
import os

import pytest
from PIL import Image

from dalle_jax.data.folder import open_folder
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import UserError


def picture(file, colour="red"):
  file.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", (8, 8), colour).save(file)


def captioned(folder, *names, suffix=".png"):
  for name in names:
    picture(folder / f"{name}{suffix}")
    (folder / f"{name}.txt").write_text(f"caption of {name}\n")


def everything(source):
  return {split: list(source.examples(split)) for split in source.splits}


def found(source, kind=Raw):
  return {each.key: each for split in source.splits for each in source.examples(split) if isinstance(each, kind)}


def reasons(source):
  return {key: each.reason for key, each in found(source, Dropped).items()}


def test_a_text_beside_a_picture_holds_a_caption_a_line(tmp_path):
  picture(tmp_path / "b/x.JPG")
  (tmp_path / "b/x.txt").write_text("\ufeffone\r\n\r\ntwo\none\n", encoding="utf-8")
  [each] = found(open_folder(tmp_path)).values()
  assert each == Raw(key="b/x.JPG", image=(tmp_path / "b/x.JPG").read_bytes(), captions=("one", "two"))


@pytest.mark.parametrize("suffix", [".jpeg", ".webp", ".gif", ".bmp", ".tif"])
def test_every_suffix_that_pillow_reads_is_a_picture(tmp_path, suffix):
  captioned(tmp_path, "a", suffix=suffix)
  assert list(found(open_folder(tmp_path))) == [f"a{suffix}"]


def test_a_table_of_tabs_names_files_and_captions(tmp_path):
  for name in "abc":
    picture(tmp_path / f"pictures/{name}.png")
  rows = "id\tfile\tcaption\r\n0\ta.png\tfirst a\r\n1\tb.png\tb\r\n2\ta.png\tsecond a\r\n"
  (tmp_path / "pictures/captions.tsv").write_text(rows)
  source = open_folder(tmp_path)
  assert {key: each.captions for key, each in found(source).items()} == {
    "pictures/a.png": ("first a", "second a"),
    "pictures/b.png": ("b",),
  }
  assert reasons(source) == {"pictures/c.png": "no caption"}


def test_a_table_of_json_lines_names_files_and_captions(tmp_path):
  for name in "ab":
    picture(tmp_path / f"{name}.png")
  rows = [{"file": "a.png", "captions": ["one", "two"]}, {"file": "b.png", "caption": "b", "more": 3}]
  (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
  assert {key: each.captions for key, each in found(open_folder(tmp_path)).items()} == {
    "a.png": ("one", "two"),
    "b.png": ("b",),
  }


def test_lines_that_are_no_captions_are_told_by_their_number(tmp_path):
  captioned(tmp_path, "a")
  lines = [
    "{",
    '{"file": "a.png"}',
    '{"file": 3, "caption": "x"}',
    '{"file": "a.png", "caption": 5}',
    "[" * 10_000,
    "7",
  ]
  (tmp_path / "captions.jsonl").write_text("\n".join(lines))
  (tmp_path / "captions.tsv").write_text("file\tcaption\na.png\n")
  assert reasons(open_folder(tmp_path)) == {
    **{f"captions.jsonl:{number}": "unreadable caption line" for number in range(1, 7)},
    "captions.tsv:2": "unreadable caption line",
  }


def test_a_table_without_its_columns_is_refused_in_one_line(tmp_path):
  picture(tmp_path / "a.png")
  (tmp_path / "captions.tsv").write_text("a.png\ta caption\n")
  with pytest.raises(UserError, match="wanted the names of columns, `file` and `caption`"):
    open_folder(tmp_path)


def test_pictures_without_captions_and_captions_without_pictures_are_told(tmp_path):
  captioned(tmp_path, "a", "b")
  (tmp_path / "b.txt").unlink()
  (tmp_path / "c.txt").write_text("no picture of this")
  (tmp_path / "captions.jsonl").write_text('{"file": "../elsewhere.png", "caption": "outside"}\n')
  source = open_folder(tmp_path)
  assert list(found(source)) == ["a.png"]
  assert reasons(source) == {
    "b.png": "no caption",
    "c.txt": "caption without picture",
    "../elsewhere.png": "caption without picture",
  }


def test_a_caption_file_that_is_not_utf8_is_told(tmp_path):
  captioned(tmp_path, "a", "b")
  (tmp_path / "b.txt").write_bytes("é".encode("latin-1"))
  assert reasons(open_folder(tmp_path)) == {"b.txt": "caption file is not UTF-8", "b.png": "no caption"}


def test_an_empty_caption_file_leaves_its_picture_to_the_checks(tmp_path):
  captioned(tmp_path, "a")
  (tmp_path / "a.txt").write_text(" \n\n")
  assert found(open_folder(tmp_path))["a.png"].captions == ("",)


def test_hidden_files_and_what_is_no_plain_file_are_passed_over(tmp_path):
  captioned(tmp_path, "a")
  captioned(tmp_path / ".cache", "b")
  picture(tmp_path / "._c.png")
  os.mkfifo(tmp_path / "d.png")
  (tmp_path / "e.png").symlink_to(tmp_path / "nowhere")
  assert list(everything(open_folder(tmp_path))) == ["train"]
  assert [each.key for each in everything(open_folder(tmp_path))["train"]] == ["a.png"]


def test_links_to_folders_are_followed_once(tmp_path):
  captioned(tmp_path / "real", "a")
  (tmp_path / "set").mkdir()
  (tmp_path / "set/train").symlink_to(tmp_path / "real")
  (tmp_path / "real/again").symlink_to(tmp_path / "set")
  assert list(found(open_folder(tmp_path / "set"))) == ["train/a.png"]


def test_sub_folders_named_after_splits_are_splits(tmp_path):
  captioned(tmp_path / "train", "a", "b")
  captioned(tmp_path / "val", "c")
  captioned(tmp_path / "test/deep", "d")
  captioned(tmp_path / "more", "e")
  source = open_folder(tmp_path)
  assert {split: [each.key for each in examples] for split, examples in everything(source).items()} == {
    "train": ["more/e.png", "train/a.png", "train/b.png"],
    "valid": ["val/c.png"],
    "test": ["test/deep/d.png"],
  }
  assert source.count("train") == 3


@pytest.mark.parametrize(("number", "held_out"), [(1, 0), (19, 0), (20, 1), (60, None)])
def test_one_in_twenty_is_held_out_of_twenty_or_more(tmp_path, number, held_out):
  captioned(tmp_path, *(f"{i:03d}" for i in range(number)))
  source = open_folder(tmp_path)
  split = everything(source)
  assert len(split["train"]) + len(split.get("valid", [])) == number
  if held_out is None:
    assert 1 <= len(split["valid"]) <= 8
  else:
    assert len(split.get("valid", [])) >= held_out
    assert source.splits == (("train", "valid") if held_out else ("train",))


def test_more_pictures_leave_the_held_out_ones_held_out(tmp_path):
  captioned(tmp_path, *(f"{i:03d}" for i in range(100)))
  before = {each.key for each in everything(open_folder(tmp_path))["valid"]}
  captioned(tmp_path, *(f"{i:03d}" for i in range(100, 150)))
  after = {each.key for each in everything(open_folder(tmp_path))["valid"]}
  assert before
  assert before <= after


def test_a_picture_that_went_away_is_told(tmp_path):
  captioned(tmp_path, "a", "b")
  source = open_folder(tmp_path)
  (tmp_path / "a.png").unlink()
  assert reasons(source) == {"a.png": "unreadable picture"}


@pytest.mark.parametrize(
  ("make", "says"),
  [
    (lambda folder: folder.rmdir(), "no folder at"),
    (lambda folder: None, "is empty: wanted a.png with a.txt"),
    (lambda folder: (folder / "a.txt").write_text("x"), "none of the 1 files in"),
    (lambda folder: (folder / "00.tar").write_text("x"), "holds tar files and no picture: name them"),
    (lambda folder: picture(folder / "a.png"), "the 1 pictures of"),
    (
      lambda folder: [(folder / name).write_text("{}") for name in ("features.json", "dataset_info.json")],
      "is a prepared data set already",
    ),
  ],
)
def test_a_folder_of_no_captioned_picture_is_refused_in_one_line(tmp_path, monkeypatch, make, says):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "pictures"
  folder.mkdir()
  make(folder)
  with pytest.raises(UserError) as error:
    open_folder("pictures")
  message = str(error.value)
  assert says in message
  assert "\n" not in message
  assert len(message) <= 200
