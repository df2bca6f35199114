"""`dalle checkpoint`: what is there, whether it is whole, in what two differ, and weights that others can read."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open

from dalle_jax import cli
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.loop import train


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, toy):
  """A run of two stages with three checkpoints each, of steps 4, 8 and 10; the second of another seed."""
  path = tmp_path_factory.mktemp("run")
  for seed, name in ((3, "first"), (4, "second")):
    told = json.dumps({"name": "toy", "seed": seed}).encode()
    train(steps=10, **toy.options("denoise", path / name, seed=seed, files={"experiment.json": told}))
  return path


def dalle(capsys, *argv):
  code = cli.main(["checkpoint", *map(str, argv)])
  said = capsys.readouterr()
  return code, said.out.splitlines(), said.err.splitlines()


def test_each_checkpoint_is_a_line(workdir, capsys):
  code, out, _ = dalle(capsys, "ls", workdir)
  assert code == 0
  rows = [line.split() for line in out[1:]]
  assert [row[:2] for row in rows] == [[stage, step] for stage in ("first", "second") for step in ("4", "8", "10")]
  assert {row[-1] for row in rows} == {"whole"}
  assert len(dalle(capsys, "ls", workdir / "first")[1]) == 4
  assert len(dalle(capsys, "ls", workdir / "first/checkpoints/8")[1]) == 2


def test_a_flipped_bit_is_found_by_verify_alone(workdir, tmp_path, capsys):
  shutil.copytree(workdir, tmp_path / "run")
  assert dalle(capsys, "verify", tmp_path / "run")[0] == 0
  files = [file for file in (tmp_path / "run/first/checkpoints/8/params").rglob("*") if file.is_file()]
  file = max(files, key=lambda file: file.stat().st_size)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)
  assert "whole" in dalle(capsys, "ls", tmp_path / "run/first/checkpoints/8")[1][1]
  code, out, _ = dalle(capsys, "verify", tmp_path / "run")
  assert code == 88
  (line,) = [line for line in out if not line.endswith(": good")]
  assert line.startswith("first 8: params/")
  assert line.endswith("is damaged: its SHA-256 differs")
  code, _, err = dalle(capsys, "export", tmp_path / "run/first/checkpoints/8", "--out", tmp_path / "out")
  assert (code, len(err)) == (88, 1)
  assert not (tmp_path / "out").exists()


def test_what_differs_is_named_and_equal_ones_are_equal(workdir, capsys):
  assert dalle(capsys, "diff", workdir / "first", workdir / "first/checkpoints/10")[:2] == (0, ["nothing differs"])
  code, out, _ = dalle(capsys, "diff", workdir / "first", workdir / "second")
  assert code == 1
  assert out[0] == "experiment: seed: 3 -> 4"
  apart = {line.split(":")[0]: float(line.split()[-4]) for line in out[1:]}
  assert {"params/up/kernel", "params/down/kernel", "params/up/bias", "ema/up/kernel"} <= apart.keys()
  a, b = (Checkpoints(workdir / name / "checkpoints").read(10, "params")["up/kernel"] for name in ("first", "second"))
  wanted = np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max())
  assert apart["params/up/kernel"] == pytest.approx(wanted, rel=5e-3)
  assert list(apart.values()) == sorted(apart.values(), reverse=True)


def test_an_array_of_another_shape_is_named_with_both(workdir, toy, tmp_path, capsys):
  told = json.dumps({"name": "toy", "seed": 3}).encode()
  wide = toy.options("denoise", tmp_path / "wide", objective=toy.Denoise(width=24), files={"experiment.json": told})
  train(steps=1, **wide)
  _, out, _ = dalle(capsys, "diff", workdir / "first", tmp_path / "wide")
  assert "params/up/kernel: float32[8,16] -> float32[8,24]" in out


@pytest.mark.parametrize(("flags", "item"), [((), "ema"), (("--ema", "False"), "params")])
def test_exported_weights_are_those_of_the_checkpoint(workdir, tmp_path, capsys, flags, item):
  code, out, _ = dalle(capsys, "export", workdir / "second/checkpoints/8", "--out", tmp_path / "out", *flags)
  assert (code, out) == (0, [str(tmp_path / "out/second.safetensors")])
  wanted = Checkpoints(workdir / "second/checkpoints").read(8, item)
  with safe_open(tmp_path / "out/second.safetensors", "numpy") as file:
    assert set(file.keys()) == {path.replace("/", ".") for path in wanted}
    for path, array in wanted.items():
      np.testing.assert_array_equal(file.get_tensor(path.replace("/", ".")), array)
    assert file.metadata()["step"] == "8"
    assert file.metadata()["weights"] == item
  assert json.loads((tmp_path / "out/experiment.json").read_text())["seed"] == 4


@pytest.mark.parametrize(
  ("argv", "words"),
  [
    (("ls",), "wanted: dalle checkpoint ls PATH"),
    (("ls", "nowhere"), "there is no such directory"),
    (("diff", "{run}"), "wanted: dalle checkpoint diff PATH PATH"),
    (("lst", "{run}"), "did you mean 'ls'"),
    (("ls", "{run}/first/checkpoints/8/params"), "wanted a workdir"),
    (("ls", "{run}/first/checkpoints/7"), "there is no such directory"),
    (("export", "{run}", "--out", "{out}"), "has the stages first, second"),
    (("export", "{run}/first"), "--out"),
    (("export", "{run}/first", "--out", "{run}"), "holds something already"),
    (("verify", "{run}", "--all"), "wanted: dalle checkpoint verify PATH"),
  ],
)
def test_bad_input_is_one_line(workdir, tmp_path, capsys, argv, words):
  code, out, err = dalle(capsys, *(word.format(run=workdir, out=tmp_path / "out") for word in argv))
  assert (code, out, len(err)) == (2, [], 1)
  assert words in err[0]
  assert not (tmp_path / "out").exists()
