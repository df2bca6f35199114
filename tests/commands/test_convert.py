"""`dalle convert`: a table of what was found; and where it is not to be read, one line and nothing written."""

import json
import time
from pathlib import Path

import numpy as np
import openai_files
import pytest
import torch_bytes
from safetensors.numpy import save_file

from dalle_jax import cli, convert_files
from dalle_jax.convert import weights
from dalle_jax.convert.kinds import KINDS


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A directory with files of several kinds, in which the command is typed."""
  monkeypatch.chdir(tmp_path)
  openai_files.write(tmp_path)
  (tmp_path / "vocab.json").write_text('{"a": 1}')
  evil = b"cos\nsystem\n(Vtouch marker\ntR"
  (tmp_path / "evil.pkl").write_bytes(openai_files.as_file(openai_files.arrays("decoder"), extra=evil))
  broken = openai_files.arrays("decoder")
  broken["blocks.output.conv.b"][2] = np.nan
  (tmp_path / "nan.pkl").write_bytes(openai_files.as_file(broken))
  (tmp_path / "short.pkl").write_bytes((tmp_path / "decoder.pkl").read_bytes()[:-100])
  save_file({"some.weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
  (tmp_path / "plain.pkl").write_bytes(torch_bytes.program(torch_bytes.plain({"a": 1})))
  return tmp_path


def convert(capsys, *argv):
  code = cli.main(["convert", *map(str, argv)])
  said = capsys.readouterr()
  return code, said.out, said.err


def test_it_tells_what_it_found_and_what_to_do_next(place, capsys):
  code, out, err = convert(capsys, "encoder.pkl", "decoder.pkl", "vocab.json", "--out", "dvae")
  assert (code, err) == (0, "")
  rows = dict(line.split(maxsplit=1) for line in out.splitlines() if len(line.split(maxsplit=1)) == 2)
  count = sum(
    openai_files.arrays(half)[name].size for half in ("encoder", "decoder") for name in openai_files.shapes(half)
  )
  assert rows["kind"] == "openai_dvae: OpenAI's dVAE"
  assert rows["parameters"] == f"{count:,}"
  assert (rows["vocab"], rows["hidden"], rows["blocks"]) == ("32", "8", "1")
  assert out.splitlines()[-1] == "next: dalle train EXPERIMENT --stages.dvae.from dvae --stages.dvae.frozen True"
  assert sorted(file.name for file in (place / "dvae").iterdir()) == [
    "config.json",
    "vocab.json",
    "weights.safetensors",
  ]
  assert weights.load("dvae").kind == "openai_dvae"
  assert "vocab.json" in json.loads((place / "dvae/config.json").read_text())["files"]


def test_a_kind_that_is_named_is_taken(place, capsys):
  assert convert(capsys, "encoder.pkl", "decoder.pkl", "--out", "dvae", "--kind", "openai_dvae")[0] == 0
  code, _, err = convert(capsys, "other.safetensors", "--out", "other", "--kind", "openai_dvae")
  assert code == 2
  assert "other.safetensors as openai_dvae: OpenAI's dVAE has two files: its encoder is there not" in err


@pytest.mark.parametrize(
  ("argv", "words"),
  [
    (["nowhere.pkl", "--out", "out"], "no file nowhere.pkl"),
    (["--out", "out"], "no file given"),
    (["encoder.pkl", "decoder.pkl"], "--out"),
    (
      ["encoder.pkl", "decoder.pkl", "--out", "out", "--kind", "clip9"],
      "no kind of weights 'clip9'; there are openai_dvae",
    ),
    (["encoder.pkl", "decoder.pkl", "--out", "."], "holds something already"),
    (["encoder.pkl", "decoder.pkl", "--out", "vocab.json"], "holds something already"),
    (["encoder.pkl", "decoder.pkl", "--out", "gs://bucket/dvae"], "wanted a directory of this machine"),
    (["encoder.pkl", "--out", "new/out"], "its decoder is there not; name encoder.pkl and decoder.pkl"),
    (["encoder.pkl", "evil.pkl", "--out", "new/out"], "evil.pkl: its pickle asks for os.system"),
    (["encoder.pkl", "nan.pkl", "--out", "new/out"], "the array nan.blocks.output.conv.b holds NaN or infinity"),
    (["encoder.pkl", "short.pkl", "--out", "new/out"], "short.pkl is damaged or cut off"),
    (["plain.pkl", "--out", "new/out"], "plain.pkl is a pickle, but not one that torch.save wrote"),
    (["vocab.json", "--out", "new/out"], "got vocab.json alone"),
    (
      ["other.safetensors", "--out", "new/out"],
      "of no kind that is known; there are openai_dvae (encoder.pkl decoder.pkl)",
    ),
    ([".", "--out", "new/out"], "holds no weights of Hugging Face"),
  ],
)
def test_bad_input_is_one_line_and_nothing_is_written(place, capsys, argv, words):
  before = sorted(place.rglob("*"))
  code, out, err = convert(capsys, *argv)
  assert (code, out, err.count("\n")) == (2, "", 1)
  assert err.startswith("dalle: ")
  assert words in err
  assert sorted(place.rglob("*")) == before


def test_a_missing_file_is_told_at_once(place, capsys):
  begin = time.monotonic()
  convert(capsys, "nowhere.pkl", "--out", "out")
  assert time.monotonic() - begin < 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_to_do_next_names_the_place_and_leaves_the_workdir_open(kind):
  told = convert_files.then(kind, Path("weights/x"))
  assert "weights/x" in told
  assert told.count("WORKDIR") == kind.then.count("WORKDIR")
