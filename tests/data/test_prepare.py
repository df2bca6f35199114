import errno
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import prepare_report, writing
from dalle_jax.data.captioned_scenes import Config, make_example
from dalle_jax.data.filters import Filters
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import decode, open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.data.source import Dropped, Raw
from dalle_jax.errors import StorageError, UserError


def png(i, mode="RGB", size=(9, 7)):
  file = io.BytesIO()
  Image.new("RGB", size, (i, 0, 0)).convert(mode).save(file, "PNG")
  return file.getvalue()


class Given:
  """A source of what a test gives it."""

  def __init__(self, name="My pictures, 2nd!", **splits):
    self.name, self.given = name, splits

  @property
  def splits(self):
    return tuple(self.given)

  def examples(self, split):
    for each in self.given[split]:
      if isinstance(each, Exception):
        raise each
      yield each


def raw(key, i=0, captions=("a caption",), **options):
  return Raw(key=key, image=png(i, **options), captions=captions)


def read(out, split="train"):
  source = open_prepared(out).source(split)
  return {example["key"]: example for example in (source[i] for i in range(len(source)))}


def test_what_is_written_is_what_the_source_yields(tmp_path):
  source = Given(train=[raw("a", 1, ("one", "zwei é")), raw("b", 2, mode="L")], valid=[raw("a", 3)])
  report = prepare(source, tmp_path / "out")
  prepared = open_prepared(tmp_path / "out")
  assert (prepared.name, prepared.splits) == ("my_pictures_2nd", ("train", "valid"))
  examples = read(tmp_path / "out")
  assert examples["a"]["captions"] == ["one", "zwei é"]
  np.testing.assert_array_equal(examples["a"]["image"], decode(png(1)))
  assert examples["b"]["image"].shape == (7, 9, 3)
  np.testing.assert_array_equal(read(tmp_path / "out", "valid")["a"]["image"], decode(png(3)))
  assert report.splits == {"train": 2, "valid": 1}
  assert sorted(os.listdir(tmp_path)) == ["out"]


def test_what_is_left_out_is_counted_and_named(tmp_path):
  bad = [
    Raw(key="cut", image=png(1)[:40], captions=("a caption",)),
    Dropped(key="lonely.txt", reason="caption without picture"),
    raw("silent", captions=("\0",)),
    raw("twice", 1),
    raw("twice", 2),
  ]
  report = prepare(Given(train=bad, valid=[raw("x", captions=())]), tmp_path / "out")
  assert report.splits == {"train": 1}
  assert report.dropped == {
    "unreadable picture": 1,
    "caption without picture": 1,
    "empty caption": 1,
    "second of its name": 1,
    "no caption": 1,
  }
  lines = [json.loads(line) for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()]
  assert {(line["split"], line["key"]) for line in lines} == {
    ("train", "cut"),
    ("train", "lonely.txt"),
    ("train", "silent"),
    ("train", "twice"),
    ("valid", "x"),
  }
  assert prepare_report.from_json((tmp_path / "out/report.json").read_text()) == report
  assert open_prepared(tmp_path / "out").splits == ("train",)


def test_the_report_tells_sizes_and_lengths(tmp_path):
  examples = [raw(f"{i}", size=(10 + i, 20), captions=("word " * (i + 1),) * (1 + i % 2)) for i in range(5)]
  report = prepare(Given(train=examples), tmp_path / "out")
  assert (report.width.least, report.width.median, report.width.most) == (10, 12, 14)
  assert (report.height.least, report.height.most) == (20, 20)
  assert (report.captions.least, report.captions.most, report.captions.mean) == (1, 2, 1.4)
  assert (report.words.least, report.words.median, report.words.most) == (1, 3, 5)
  assert (report.characters.least, report.characters.most) == (4, 24)
  text = prepare_report.as_text(report)
  assert "10 to 14 (median 12) x 20 pixels" in text
  assert "left out  0" in text


def test_filters_leave_out_and_are_named_in_the_report(tmp_path):
  examples = [raw("short"), raw("wide", size=(30, 7)), raw("good", captions=("two", "a small red circle"))]
  report = prepare(Given(train=examples), tmp_path / "out", filters=Filters())
  assert report.dropped == {"caption too short": 1, "aspect ratio outside [1/2, 2]": 1}
  assert read(tmp_path / "out")["good"]["captions"] == ["a small red circle"]
  assert "no detector installed" in report.filters
  assert report.filters in prepare_report.as_text(report)


def test_captions_of_ten_thousand_characters_and_of_emoji_are_kept(tmp_path):
  prepare(Given(train=[raw("a", captions=("x" * 10_000, "🦊🧁"))]), tmp_path / "out")
  assert read(tmp_path / "out")["a"]["captions"] == ["x" * 10_000, "🦊🧁"]


def test_captioned_scenes_are_written_as_they_are_drawn(tmp_path):
  config = Config(train=6, valid=1, test=1, test_pairs=1)
  told = []
  report = prepare(Scenes(config), tmp_path / "out", shards=2, progress=lambda *each: told.append(each))
  assert report.splits == {"train": 6, "valid": 1, "test": 1, "test_pairs": 1}
  expected = make_example(config, "train", 4)
  found = read(tmp_path / "out")[expected["key"]]
  assert (found["captions"], found["attributes"]) == (expected["captions"], expected["attributes"])
  np.testing.assert_array_equal(found["image"], decode(expected["image"]))
  assert len(list((tmp_path / "out").glob("captioned_scenes-train.array_record-*-of-00002"))) == 2
  assert told[:2] == [("preparing train", 0, 6), ("preparing train", 1, 6)]
  assert ("preparing train", 6, 6) in told


def test_the_same_source_writes_the_same_files(tmp_path):
  for name in ("one", "two"):
    prepare(Given(train=[raw(f"{i}", i) for i in range(30)]), tmp_path / name)
  for file in (tmp_path / "one").iterdir():
    assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_nothing_is_printed(tmp_path, capfd):
  prepare(Given(train=[raw("a")]), tmp_path / "out")
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
  ("name", "plain"), [("a-B c", "a_b_c"), ("2nd", "pictures_2nd"), ("日本", "pictures"), ("__x__", "x")]
)
def test_names_become_identifiers(name, plain):
  assert writing.identifier(name) == plain


def test_a_source_of_nothing_usable_is_one_line_that_says_why(tmp_path):
  examples = [Raw(key=f"{i}", image=b"no picture", captions=("a caption",)) for i in range(3)]
  with pytest.raises(UserError) as error:
    prepare(Given(train=[*examples, raw("b", captions=("",))]), tmp_path / "out")
  assert "left out: unreadable picture (3), empty caption (1)" in str(error.value)
  assert len(str(error.value)) <= 200
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
  "make", [lambda out: (out.mkdir(), (out / "x").write_text("")), lambda out: out.write_text("")]
)
def test_what_stands_at_out_is_never_touched(tmp_path, make):
  make(tmp_path / "out")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(UserError, match="holds something already: take another --out, or remove it"):
    prepare(Given(train=[raw("a")]), tmp_path / "out")
  assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_directory_at_out_is_filled(tmp_path):
  (tmp_path / "out").mkdir()
  prepare(Given(train=[raw("a")]), tmp_path / "out")
  assert len(read(tmp_path / "out")) == 1


def test_a_place_that_may_not_be_written_is_one_line(tmp_path):
  (tmp_path / "locked").mkdir()
  (tmp_path / "locked").chmod(0o500)
  was = os.geteuid()
  if was == 0:
    os.seteuid(65534)
  try:
    with pytest.raises(UserError, match=r"cannot write to .*: Permission denied; take another --out"):
      prepare(Given(train=[raw("a")]), tmp_path / "locked/out")
  finally:
    os.seteuid(was)


def test_a_file_in_the_way_of_out_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"cannot write to .*: Not a directory; take another --out"):
    prepare(Given(train=[raw("a")]), tmp_path / "file/out")


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("write() failed: No space left on device; at byte 7"),
  ],
  ids=["python", "array_record"],
)
def test_a_full_disk_is_a_storage_error_and_nothing_is_left(tmp_path, error):
  with pytest.raises(StorageError, match=r"the disk of .* is full: nothing was written"):
    prepare(Given(train=[raw("a"), error]), tmp_path / "out")
  assert not os.listdir(tmp_path)


def test_any_other_error_passes_and_nothing_is_left(tmp_path):
  with pytest.raises(ZeroDivisionError):
    prepare(Given(train=[raw("a"), ZeroDivisionError()]), tmp_path / "out")
  assert not os.listdir(tmp_path)


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[1])
from dalle_jax.data.prepare import prepare
from dalle_jax.data.source import Raw
class Slow:
  name, splits = "slow", ("train",)
  def examples(self, split):
    for i in range(1000):
      yield Raw(key=str(i), image=bytes.fromhex(sys.argv[2]), captions=("a caption",))
      print(i, flush=True)
      time.sleep(0.2)
prepare(Slow(), sys.argv[1] + "/out", progress=lambda what, done, total: print(what, file=sys.stderr, flush=True))
"""


def test_while_one_writes_another_is_refused_and_what_a_killed_one_left_is_removed(tmp_path):
  argv = [sys.executable, "-c", SLOW, str(tmp_path), png(1).hex()]
  running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
  try:
    running.stderr.readline()  # it has its lock
    with pytest.raises(UserError, match="another process is writing"):
      prepare(Given(train=[raw("a")]), tmp_path / "out")
    time.sleep(0.5)
    running.send_signal(signal.SIGKILL)
    running.wait()
  finally:
    running.kill()
    running.stderr.close()
  assert not (tmp_path / "out").exists()
  assert os.listdir(tmp_path / ".out.preparing")
  prepare(Given(train=[raw("a")]), tmp_path / "out")
  assert os.listdir(tmp_path) == ["out"]


def test_preparing_imports_neither_jax_nor_tensorflow():
  script = (
    "import sys; from dalle_jax.data import prepare, folder, webdataset, tfds_source, emoji, scenes_source, inspection;"
    "assert not {'jax', 'tensorflow', 'torch'} & set(sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
