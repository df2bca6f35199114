"""`dalle data prepare` and `dalle data inspect` as they are typed: what they print, and one line for each bad input."""

import io
import json
import subprocess
import sys
import time
import zlib

import pytest
from PIL import Image

from dalle_jax import cli
from dalle_jax.commands import data_prepare
from dalle_jax.data.prepared import open_prepared


def dalle(*argv):
  return cli.main(["data", *map(str, argv)])


def png(i=0):
  file = io.BytesIO()
  Image.new("RGB", (8, 8), (i, 0, 0)).save(file, "PNG")
  return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
  folder = tmp_path / "pictures"
  folder.mkdir()
  for i in range(30):
    (folder / f"{i}.png").write_bytes(png(i))
    (folder / f"{i}.txt").write_text(f"a picture of {i}")
  (folder / "3.png").write_bytes(png(3)[:50])
  (folder / "4.txt").unlink()
  (folder / "extra.txt").write_text("of nothing")
  return folder


def test_a_folder_is_prepared_and_inspected(pictures, tmp_path, capfd):
  assert dalle("prepare", pictures, "--out", tmp_path / "out") == 0
  printed = capfd.readouterr()
  assert "left out  3: " in printed.out
  for reason in ("unreadable picture 1", "no caption 1", "caption without picture 1"):
    assert reason in printed.out
  assert printed.out.strip().endswith(str(tmp_path / "out"))
  assert "preparing train" in printed.err
  prepared = open_prepared(tmp_path / "out")
  assert sum(len(prepared.source(split)) for split in prepared.splits) == 28
  assert dalle("inspect", tmp_path / "out", "--vocab", 300, "--length", 8) == 0
  printed = capfd.readouterr().out
  assert "captions (" in printed
  assert "are cut to 7" in printed
  assert "unreadable picture: 3.png" in printed
  assert (tmp_path / "out/inspection.html").is_file()


def test_captioned_scenes_take_their_settings_as_flags(tmp_path):
  settings = {"image": 16, "captions": 1, "train": 3, "valid": 1, "test": 1, "test-pairs": 1, "seed": 5}
  flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
  assert dalle("prepare", "captioned_scenes", "--out", tmp_path / "out", *flags) == 0
  source = open_prepared(tmp_path / "out").source("train")
  assert len(source) == 3
  assert source[0]["image"].shape == (16, 16, 3)
  assert len(source[0]["captions"]) == 1


def test_raven_s_matrices_take_their_settings_as_flags(tmp_path):
  settings = {"image": 64, "grid": 16, "train": 3, "valid": 1, "inverted": 1, "seed": 5}
  flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
  assert dalle("prepare", "raven", "--out", tmp_path / "out", *flags) == 0
  source = open_prepared(tmp_path / "out").source("train")
  assert len(source) == 3
  assert source[0]["image"].shape == (64, 64, 3)
  assert (source[0]["image"][0, 0] == 0).all()  # white on black


def test_filters_are_applied_and_told(pictures, tmp_path, capfd):
  (pictures / "7.txt").write_text("photographed on 7 July 2007")
  assert dalle("prepare", pictures, "--out", tmp_path / "out", "--filters", "paper") == 0
  assert "filters   at least 3 words, no boilerplate" in capfd.readouterr().out
  assert json.loads((tmp_path / "out/report.json").read_text())["dropped"]["caption is boilerplate"] == 1


@pytest.mark.parametrize(
  ("words", "kind"),
  [
    (["captioned_scenes"], data_prepare.SceneFlags),
    (["raven"], data_prepare.RavenFlags),
    (["emoji"], data_prepare.EmojiFlags),
    (["a.tar", "b.tar.gz"], data_prepare.TarFlags),
    (["shards/*.tar"], data_prepare.TarFlags),
    (["coco_captions"], data_prepare.TfdsFlags),
    (["coco_captions/2014:1.1.0"], data_prepare.TfdsFlags),
    (["."], data_prepare.FolderFlags),
  ],
)
def test_what_is_prepared_says_which_flags_there_are(words, kind):
  assert data_prepare.flags_for(words) is kind


def cut(folder):
  (folder / "a.png").write_bytes(png()[:30])
  (folder / "a.txt").write_text("a caption")


def huge(folder):
  header = bytearray(png())
  header[16:24] = (65536).to_bytes(4, "big") * 2
  header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
  (folder / "a.png").write_bytes(header)
  (folder / "a.txt").write_text("a caption")


def silent(folder):
  (folder / "a.png").write_bytes(png())
  (folder / "a.txt").write_bytes(b"\0\0\n")


@pytest.mark.parametrize(
  ("make", "argv", "says"),
  [
    (None, ["prepare", "nowhere/pictures", "--out", "out"], "no folder and no data set 'nowhere/pictures'"),
    (None, ["prepare", "./nowhere", "--out", "out"], "no folder at ./nowhere"),
    (None, ["prepare", "captioned_scene", "--out", "out"], "did you mean 'captioned_scenes'?"),
    (None, ["prepare", "--out", "out"], "nothing to prepare"),
    (None, ["prepare", "captioned_scenes"], "--out"),
    (None, ["prepare", "captioned_scenes", "--out", "out", "--trian", "3"], "Perhaps you meant: --train"),
    (None, ["prepare", "captioned_scenes", "--out", "out", "--train", "0"], "wanted at least 1"),
    (None, ["prepare", "raven", "--out", "out", "--grid", "5"], "got pictures of 48 pixels for 5 codes a side"),
    (None, ["prepare", "raven", "--out", "out", "--inverted", "2"], "wanted a share from 0 to 1"),
    (None, ["prepare", "captioned_scenes", "--out", "out", "--shards", "0"], "got --shards 0, wanted at least 1"),
    (None, ["prepare", "captioned_scenes", "--out", "out", "--filters", "papr"], "--filters"),
    (None, ["prepare", "a.png", "b.png", "--out", "out"], "got 2 things to prepare"),
    (None, ["prepare", "no.tar", "--out", "out"], "no file matches no.tar"),
    (None, ["prepare", "emoji", "--out", "out", "--font", "no.ttf"], "`apt-get install fonts-noto-color-emoji"),
    (None, ["prepare", "imagenet2021", "--out", "out", "--data-dir", "."], "did you mean 'imagenet2012'?"),
    (lambda folder: None, ["prepare", "pictures", "--out", "out"], "pictures is empty"),
    (
      lambda folder: (folder / "a.txt").write_text("x"),
      ["prepare", "pictures", "--out", "out"],
      "none of the 1 files in pictures is a picture",
    ),
    (
      lambda folder: (folder / "a.png").write_bytes(png()),
      ["prepare", "pictures", "--out", "out"],
      "the 1 pictures of pictures have no captions",
    ),
    (cut, ["prepare", "pictures", "--out", "out"], "left out: unreadable picture (1)"),
    (huge, ["prepare", "pictures", "--out", "out"], "left out: too many pixels (1)"),
    (silent, ["prepare", "pictures", "--out", "out"], "left out: empty caption (1)"),
    (cut, ["prepare", "pictures", "--out", "pictures"], "holds something already"),
    (cut, ["prepare", "pictures/a.png", "--out", "out"], "pictures/a.png is a file"),
    (None, ["inspect", "nowhere"], "no data at nowhere: make it with `dalle data prepare"),
    (cut, ["inspect", "pictures"], "pictures is not a prepared data set"),
    (None, ["inspect", "--vocab", "300"], "no data set given"),
    (cut, ["inspect", "pictures", "--vocba", "300"], "--vocab"),
    (cut, ["inspect", "pictures", "--examples", "0"], "got --examples 0, wanted at least 1"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capfd, make, argv, says):
  monkeypatch.chdir(tmp_path)
  if make:
    (tmp_path / "pictures").mkdir()
    make(tmp_path / "pictures")
  assert dalle(*argv) == 2
  printed = capfd.readouterr()
  assert printed.out == ""
  assert says in printed.err
  assert printed.err.count("\n") == 1
  assert len(printed.err) <= 207
  assert not (tmp_path / "out").exists()
  assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
  "argv",
  [["prepare", "captioned_scense", "--out", "x"], ["prepare", "./nowhere", "--out", "x"], ["inspect", "nowhere"]],
)
def test_a_misspelt_name_or_a_missing_folder_imports_nothing_slow(argv):
  begin = time.monotonic()
  script = (
    "import sys; from dalle_jax import cli; assert cli.main(['data', *sys.argv[1:]]) == 2;"
    "assert not {'jax', 'tensorflow_datasets', 'tyro', 'numpy'} & set(sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert time.monotonic() - begin < 5


@pytest.mark.parametrize("argv", [["prepare"], ["prepare", "--help"], ["inspect", "--help"]])
def test_help_shows_what_to_type(capfd, argv):
  assert dalle(*argv) == 0
  assert f"usage: dalle data {argv[0]}" in capfd.readouterr().out
