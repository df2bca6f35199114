"""Commands over eight simulated devices, each with its part of weights and rows: what they write is one device's."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run
import toy_captioner
from PIL import Image

from dalle_jax import cli, describe, draw, evaluate, probe, rank, score
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.evaluation import pairs
from dalle_jax.evaluation.probes.catalogue import find
from dalle_jax.evaluation.report import Protocol
from dalle_jax.sampling import attention, draws, likelihood
from dalle_jax.sampling import caption as caption_lib
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.workdir import Workdir

ROOT = Path(__file__).parents[2] / "experiments"
CAPTIONS = ("a red circle", "a blue square on white", "a green star")
PROBED = ("probes-one", "probes-eight")
PASSES = {"log_likelihoods": 1, "image_given_caption": 1, "image_given_read": 2}
MESH = ("--mesh.data", "2", "--mesh.fsdp", "2", "--mesh.model", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with a workdir whose weights are drawn at random, pictures, their captions, and prepared scenes."""
  directory = tmp_path_factory.mktemp("place")
  suite = [caption.text for caption in find(["relative_positions"])[0].captions()]
  tiny_run.workdir(directory / "run", [*CAPTIONS, *suite] * 3)
  prepare(Scenes(Config(image=16, train=24, valid=5, test=6, test_pairs=4)), directory / "data")
  rng = np.random.default_rng(0)
  (directory / "pictures").mkdir()
  for name in "abc":
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(directory / f"pictures/{name}.png")
  (directory / "captions.txt").write_text("".join(f"{caption}\n" for caption in CAPTIONS))
  return directory


@pytest.fixture
def watched(monkeypatch):
  """Watches functions that compute rows, each given by its module, its name and which argument the rows are.

  Tells by name the sets of how many rows there were and how many of them each device had; all have to be on eight.
  """
  seen = {}

  def watch(module, name, at):
    own = getattr(module, name)

    def called(*args, **kwargs):
      if not isinstance(rows := args[at], jax.core.Tracer):
        assert kwargs["mesh"].size == len(rows.sharding.device_set) == 8
        seen.setdefault(name, set()).add((len(rows), rows.sharding.shard_shape(rows.shape)[0]))
      return own(*args, **kwargs)

    monkeypatch.setattr(module, name, called)

  def start(*functions):
    for function in functions:
      watch(*function)
    return seen

  return start


def dalle(*argv):
  assert cli.main([str(arg) for arg in argv]) == 0


def lines(folder):
  return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def assert_alike(rows, others):
  """Lines of samples: all but the scores to the letter, these to float32's rounding."""
  assert len(rows) == len(others) > 0
  for row, other in zip(rows, others):
    assert {k: v for k, v in row.items() if "score" not in k} == {k: v for k, v in other.items() if "score" not in k}
    assert row["score"] == pytest.approx(other["score"], abs=1e-4)
    assert row["scores"] == pytest.approx(other["scores"], abs=1e-4)


@pytest.mark.slow
def test_probes_are_drawn_as_by_one_device(place):
  suites, how = find(["relative_positions"]), {"num": 3, "keep": 2, "limit": 3, "seed": 0, "batch": 8}
  one = probe.probe(
    Workdir.open(str(place / "run")), suites, sampling=SamplingConfig(), out=place / "probes-one", **how
  )
  flags = [f"--{name}={number}" for name, number in how.items()]
  dalle("probe", place / "run", "relative_positions", *flags, *MESH, "--out", place / "probes-eight")
  found = [lines(folder / "relative_positions") for folder in (one.parent, place / "probes-eight")]
  assert_alike(*found)
  for row in found[0]:
    pictures = [np.asarray(Image.open(place / name / "relative_positions" / row["file"])) for name in PROBED]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.slow
def test_likelihoods_are_those_of_one_device(place, watched):
  run, given = Workdir.open(str(place / "run")), (place / "pictures", place / "captions.txt")
  told = {"about": {}, "progress": lambda *done: None, "say": lambda line: None}
  wanted = score.Wanted(maps=1, retrieval=True)
  one = pairs.from_files(*map(str, given))
  score.score(evaluate.drawer(run), run.tokenizer(), one, wanted, out=place / "score-one", **told)
  seen = watched(*((likelihood, name, at) for name, at in PASSES.items()))
  flags = (*MESH, "--retrieval", "--maps", 1, "--out", place / "score-eight")
  dalle("score", place / "run", given[0], "--captions", given[1], *flags)
  # 3 pairs are filled up to 4, and so are 3 pictures of one caption: the rows divide over data and fsdp.
  assert seen == {"log_likelihoods": {(4, 1)}, "image_given_caption": {(4, 1)}, "image_given_read": {(4, 1)}}
  for name in ("scores.tsv", "retrieval.tsv"):
    found, expected = (table(place / out / name) for out in ("score-eight", "score-one"))
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(*(np.array(list(each.values())) for each in (found, expected)), rtol=2e-5, atol=1e-3)


def table(file):
  """The numbers of a line's columns, by what stands in the line's others."""
  rows = [line.split("\t") for line in file.read_text().splitlines()[1:]]
  is_number = lambda cell: cell.removeprefix("-").replace(".", "", 1).isdigit()  # noqa: E731
  return {
    tuple(cell for cell in row if not is_number(cell)): [float(cell) for cell in row if is_number(cell)] for row in rows
  }


@pytest.mark.slow
def test_what_was_drawn_is_ranked_and_looked_at_as_by_one_device(place, watched):
  run = Workdir.open(str(place / "run"))
  how = {"num": 3, "keep": 3, "seed": 1, "batch": 8}
  draw.draw(run, CAPTIONS[:1], sampling=SamplingConfig(), out=place / "one", attention=True, **how)
  rank.again(run, place / "one", keep=2, out=place / "again-one", batch=8, asked={"likelihood": 1.0})
  seen = watched((attention, "on_text", 1), (likelihood, "image_given_caption", 1))
  flags = [f"--{name}={number}" for name, number in how.items()]
  dalle("sample", place / "run", CAPTIONS[0], *flags, *MESH, "--attention", "--out", place / "eight")
  assert_alike(lines(place / "eight"), lines(place / "one"))
  assert seen["on_text"] == {(4, 1)}
  for file in sorted((place / "one").glob("*/*-attention.png")):
    sheets = [np.asarray(Image.open(place / name / file.relative_to(place / "one"))) for name in ("one", "eight")]
    np.testing.assert_allclose(*(sheet.astype(int) for sheet in sheets), atol=1)
  dalle("sample", place / "run", "--drawn", place / "eight", "--keep", 2, "--rank", "likelihood", *MESH, "--batch", 8)
  assert seen["image_given_caption"] == {(64, 16)}
  assert_alike(lines(place / "eight"), lines(place / "again-one"))
  scores = [draws.read(place / name).scores for name in ("one", "eight")]
  np.testing.assert_allclose(scores[0]["likelihood"], scores[1]["likelihood"], rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_what_is_measured_is_what_one_device_measures(place):
  protocol = Protocol(captions=5, samples=3, batch=8, sampling=SamplingConfig(top_p=1.0))
  one = evaluate.evaluate(Workdir.open(str(place / "run")), protocol, data=str(place / "data"))
  shutil.copytree(place / "run", place / "measured")
  dalle("eval", place / "measured", "--data", place / "data", "--captions=5", "--samples=3", "--batch=8", *MESH)
  found, expected = (json.loads((place / name / "evaluation.json").read_text()) for name in ("measured", "run"))
  assert one.losses.keys() == found["losses"].keys() == {"dvae", "transformer", "clip"}
  assert_close(found, expected)


def assert_close(found, expected):
  if isinstance(expected, dict):
    assert found.keys() == expected.keys()
    for name in expected:
      assert_close(found[name], expected[name])
  elif isinstance(expected, list):
    assert len(found) == len(expected)
    for each, other in zip(found, expected):
      assert_close(each, other)
  else:
    assert found == (pytest.approx(expected, rel=1e-4, abs=1e-5) if isinstance(expected, float) else expected)


@pytest.mark.slow
def test_captions_are_those_that_one_device_writes(tmp_path, capsys, watched):
  run = toy_captioner.written(ROOT, tmp_path)
  images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
  files = [tmp_path / f"{i}.png" for i in range(3)]
  for file, image in zip(files, images):
    Image.fromarray(image).save(file)
  expected = describe.captions(run, list(images), num=3, keep=3, sampling=SamplingConfig(), seed=0, batch=9)
  seen = watched((caption_lib, "describe", 1))
  capsys.readouterr()
  dalle("caption", run.path, *files, "--num", 3, "--keep", 3, "--batch", 9, "--json", *MESH)
  found = json.loads(capsys.readouterr().out)
  assert seen["describe"] == {(1, 1)}  # of one picture at a time 4 captions, of which the last is let go of
  for each, written in zip(found, expected, strict=True):
    assert [(c["text"], c["times"], c["tokens"]) for c in each["captions"]] == [
      (c.text, c.times, c.tokens) for c in written
    ]
    assert [c["loglik"] for c in each["captions"]] == pytest.approx([c.loglik for c in written], rel=1e-5)


@pytest.mark.parametrize(
  "argv",
  [
    ("probe", "run", "shape"),
    ("score", "run", "pictures", "--captions", "captions.txt"),
    ("eval", "run", "--data", "data"),
    ("sample", "run", "a red circle"),
  ],
)
def test_a_mesh_of_other_devices_than_there_are_is_refused(place, monkeypatch, capsys, argv):
  monkeypatch.chdir(place)
  before = sorted(place.rglob("*"))
  assert cli.main([*argv, "--mesh.data", "3"]) == 2
  said = capsys.readouterr().err
  assert "got a mesh of data=3, fsdp=1, model=1 for 8 devices" in said
  assert said.count("dalle: ") == 1
  assert sorted(place.rglob("*")) == before
