import io
import json
import tarfile

import pytest
from PIL import Image

from dalle_jax.data.source import Dropped, Raw
from dalle_jax.data.webdataset import open_tars
from dalle_jax.errors import UserError


def png(i=0):
  file = io.BytesIO()
  Image.new("RGB", (8, 8), (i % 256, 0, 0)).save(file, "PNG")
  return file.getvalue()


def shard(file, members, mode="w"):
  with tarfile.open(file, mode) as tar:
    for name, content in members:
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return str(file)


def pairs(numbers):
  return [each for i in numbers for each in ((f"{i:04d}.png", png(i)), (f"{i:04d}.txt", f"number {i}".encode()))]


def found(source, kind=Raw):
  return {each.key: each for split in source.splits for each in source.examples(split) if isinstance(each, kind)}


def reasons(source):
  return {key: each.reason for key, each in found(source, Dropped).items()}


def test_members_that_share_a_name_are_one_example(tmp_path):
  members = [
    ("a/x.jpg", png(1)),
    ("a/y.seg.png", b"not looked at"),
    ("a/y.webp", png(2)),
    ("a/x.txt", "früh".encode()),
    ("a/y.json", json.dumps({"captions": ["one", "two"], "width": 3}).encode()),
    ("z.png", png(3)),
    ("z.txt", b"said"),
    ("z.json", json.dumps({"caption": "said"}).encode()),
  ]
  assert found(open_tars([shard(tmp_path / "s.tar", members)])) == {
    "s.tar/a/x": Raw(key="s.tar/a/x", image=png(1), captions=("früh",)),
    "s.tar/a/y": Raw(key="s.tar/a/y", image=png(2), captions=("one", "two")),
    "s.tar/z": Raw(key="s.tar/z", image=png(3), captions=("said",)),
  }


def test_several_shards_and_patterns_are_read_in_order_and_once(tmp_path):
  for name in ("b", "a"):
    shard(tmp_path / f"{name}.tar", pairs([0]))
  shard(tmp_path / "c.tar.gz", pairs([0]), "w:gz")
  source = open_tars([str(tmp_path / "c.tar.gz"), str(tmp_path / "[ab].tar"), str(tmp_path / "a.tar")])
  assert list(found(source)) == ["c.tar.gz/0000", "a.tar/0000", "b.tar/0000"]
  assert source.name == "c"


def test_shards_of_one_name_in_two_folders_have_keys_of_their_own(tmp_path):
  files = []
  for name in "ab":
    (tmp_path / name).mkdir()
    files.append(shard(tmp_path / name / "0.tar", pairs([7])))
  assert len(found(open_tars(files))) == 2


def test_one_example_in_twenty_is_held_out(tmp_path):
  source = open_tars([shard(tmp_path / "s.tar", pairs(range(100)))])
  held_out = list(source.examples("valid"))
  assert 1 <= len(held_out) <= 12
  assert source.count("valid") == len(held_out)
  assert source.count("train") == len(list(source.examples("train"))) == 100 - len(held_out)
  assert open_tars([shard(tmp_path / "few.tar", pairs(range(19)))]).splits == ("train",)


def test_what_is_missing_or_unreadable_in_an_example_is_told(tmp_path):
  members = [
    ("a.png", png()),
    ("b.txt", b"no picture"),
    ("c.cls", b"3"),
    ("d.png", png()),
    ("d.txt", b"\xff"),
    ("e.png", png()),
    ("e.json", b"{"),
    ("f.png", png()),
    ("f.json", b'{"caption": 5}'),
    ("g.png", png()),
    ("g.json", b"[1]"),
    ("h.png", png()),
    ("h.json", b'{"captions": "not a list"}'),
  ]
  source = open_tars([shard(tmp_path / "s.tar", members)])
  assert reasons(source) == {
    "s.tar/b": "caption without picture",
    "s.tar/c": "neither picture nor caption",
    "s.tar/d": "caption file is not UTF-8",
    "s.tar/e": "unreadable caption file",
    "s.tar/f": "unreadable caption file",
    "s.tar/g": "unreadable caption file",
    "s.tar/h": "unreadable caption file",
  }
  assert found(source)["s.tar/a"].captions == ()


def test_what_a_truncated_shard_still_holds_is_kept(tmp_path):
  whole = tmp_path / "whole.tar"
  shard(whole, pairs(range(6)))
  (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[: 512 * 4 * 3 + 540])
  source = open_tars([str(tmp_path / "cut.tar"), str(whole)])
  assert [key for key in found(source) if key.startswith("cut")] == [f"cut.tar/{i:04d}" for i in range(3)]
  assert len([key for key in found(source) if key.startswith("whole")]) == 6
  assert set(reasons(source).values()) == {"damaged shard"}
  assert set(reasons(source)) == {"cut.tar/0003", "cut.tar"}


def test_a_damaged_header_in_a_shard_is_no_end_of_it_in_silence(tmp_path):
  file = tmp_path / "s.tar"
  shard(file, pairs(range(6)))
  content = bytearray(file.read_bytes())
  content[512 * 4 * 2 : 512 * 4 * 2 + 300] = b"?" * 300
  file.write_bytes(content)
  source = open_tars([str(file)])
  assert list(found(source)) == ["s.tar/0000", "s.tar/0001"]
  assert reasons(source) == {"s.tar": "damaged shard"}


@pytest.mark.parametrize("content", [b"", b"no tar" * 200], ids=["empty", "text"])
def test_a_file_that_is_no_tar_is_told_and_the_rest_read(tmp_path, content):
  (tmp_path / "a.tar").write_bytes(content)
  source = open_tars([str(tmp_path / "a.tar"), shard(tmp_path / "b.tar", pairs([0]))])
  assert list(found(source)) == ["b.tar/0000"]
  assert reasons(source) == {"a.tar": "damaged shard"}


def test_a_compressed_shard_cut_short_is_told(tmp_path):
  file = tmp_path / "s.tar.gz"
  shard(file, pairs(range(50)), "w:gz")
  file.write_bytes(file.read_bytes()[:-200])
  assert "damaged shard" in reasons(open_tars([str(file)])).values()


@pytest.mark.parametrize("word", ["no.tar", "no-*.tar", "no-{0..3}.tar"])
def test_a_word_that_matches_no_file_is_refused_in_one_line(tmp_path, word):
  with pytest.raises(UserError) as error:
    open_tars([str(tmp_path / word)])
  assert "wanted WebDataset .tar files" in str(error.value)
  assert ("braces are for the shell" in str(error.value)) == ("{" in word)
