"""`dalle caption`: what it prints of a trained run, what it refuses, and what refuses a run that writes captions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import toy_captioner
from PIL import Image

from dalle_jax import cli, showing
from dalle_jax.data import captions
from dalle_jax.data.prepared import open_prepared
from dalle_jax.workdir import Workdir

ROOT = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with a workdir and a few pictures."""
  directory = tmp_path_factory.mktemp("place")
  toy_captioner.written(ROOT, directory)
  rng = np.random.default_rng(0)
  for name, shape in (("wide", (20, 40, 3)), ("tall", (50, 16, 3)), ("small", (8, 8, 3))):
    Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(directory / f"{name}.png")
  (directory / "text.png").write_text("text")
  return directory


def dalle(capsys, *argv, code=0):
  assert cli.main([str(arg) for arg in argv]) == code
  return capsys.readouterr()


def asked(place, capsys, *argv):
  """What `dalle caption --json` says of pictures."""
  pictures = [place / f"{name}.png" for name in argv if not name.startswith("-") and not name.isdigit()]
  flags = [arg for arg in argv if arg.startswith("-") or arg.isdigit()]
  return json.loads(dalle(capsys, "caption", place / "run", *pictures, *flags, "--json").out)


def test_captions_are_ranked_and_told_with_their_likelihood(place, capsys):
  found = asked(place, capsys, "wide", "tall", "--num", "6", "--keep", "4")
  assert [Path(each["picture"]).name for each in found] == ["wide.png", "tall.png"]
  for each in found:
    scores = [caption["score"] for caption in each["captions"]]
    assert 1 <= len(scores) <= 4
    assert scores == sorted(scores, reverse=True)
    assert len({caption["text"] for caption in each["captions"]}) == len(scores)
    for caption in each["captions"]:
      assert caption["text"].isprintable()
      assert caption["score"] == pytest.approx(caption["loglik"] / caption["tokens"])
      assert 1 <= caption["tokens"] <= 24
  assert found[0]["captions"] != found[1]["captions"]


@pytest.mark.slow
def test_more_captions_hold_the_fewer_and_the_batch_changes_nothing(place, capsys):
  everything = ("--num", "5", "--keep", "5")
  together = asked(place, capsys, "wide", "tall", "small", *everything)
  one_by_one = asked(place, capsys, "wide", "tall", "small", *everything, "--batch", "5")
  alone = asked(place, capsys, "wide", *everything)
  texts = lambda found: [[(c["text"], c["times"]) for c in each["captions"]] for each in found]  # noqa: E731
  assert texts(one_by_one) == texts(together)
  assert texts(alone) == texts(together)[:1]
  fewer = asked(place, capsys, "wide", "--num", "2", "--keep", "2")
  assert {text for text, _ in texts(fewer)[0]} <= {text for text, _ in texts(alone)[0]}
  assert texts(asked(place, capsys, "wide", *everything, "--seed", "1")) != texts(alone)


def test_without_noise_all_captions_are_the_same_one(place, capsys):
  (found,) = asked(place, capsys, "wide", "--num", "4", "--temperature", "0")
  (caption,) = found["captions"]
  assert caption["times"] == 4


@pytest.mark.slow
def test_a_table_holds_every_picture_and_what_is_kept_of_it(place, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "400")
  printed = dalle(capsys, "caption", place / "run", place / "wide.png", place / "small.png")
  assert "wide.png" in printed.out
  assert "small.png" in printed.out
  assert "ln p a token" in printed.out
  assert "writing captions: 16" in printed.err
  kept = asked(place, capsys, "wide", "small")
  assert 2 < sum(len(each["captions"]) for each in kept) <= 6
  assert len(printed.out.splitlines()) == 1 + sum(len(each["captions"]) for each in kept)


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--num", "3"], "no workdir given, got --num first; wanted: dalle caption WORKDIR picture.png"),
    (["run"], "no picture to describe; wanted: dalle caption WORKDIR picture.png"),
    (["run", "no.png"], "cannot read the picture no.png: No such file or directory"),
    (["run", "text.png"], "cannot read the picture text.png: it is no picture that can be read"),
    (["run", "wide.png", "--num", "2", "--keep", "3"], "got --keep 3 of --num 2, wanted no more than are written"),
    (["run", "wide.png", "--num", "0"], "got --num 0, wanted at least 1"),
    (["run", "wide.png", "--top-k", "-1"], "got --top-k -1, wanted 1 or more, or 0 for all tokens"),
    (["run", "wide.png", "--top-p", "0"], "got top_p=0.0, wanted more than 0"),
    (["nowhere", "wide.png"], "nowhere is not a workdir: it holds no experiment.json"),
    (["begun", "wide.png"], "begun has no tokenizer.model yet: its training has not begun"),
    (["text-first", "wide.png"], "it draws pictures and writes no captions; train one image-first"),
    (["endless", "wide.png"], "was trained without pad_targets: it never learnt where a caption ends"),
    (["pictures", "wide.png"], "pictures has no transformer: train experiments/demo_captions.py"),
  ],
)
def test_what_cannot_be_is_one_line(place, monkeypatch, capsys, argv, says):
  monkeypatch.chdir(place)
  begun = toy_captioner.experiment(ROOT, "data")
  stage = begun.stage("transformer")
  endless = toy_captioner.replace(stage, objective=toy_captioner.replace(stage.objective, pad_targets=False))
  Workdir.claim("begun", begun)
  Workdir.claim("text-first", toy_captioner.experiment(ROOT, "data", order="text_first"))
  Workdir.claim("endless", toy_captioner.replace(begun, stages=begun.stages | {"transformer": endless}))
  Workdir.claim("pictures", toy_captioner.replace(begun, stages={"dvae": begun.stage("dvae")}))
  printed = dalle(capsys, "caption", *argv, code=2)
  assert says in printed.err
  assert printed.err.count("\n") == 1
  assert printed.out == ""


def test_a_tokenizer_that_is_not_the_one_of_the_training_is_refused(place, tmp_path, capsys):
  shutil.copytree(place / "run", tmp_path / "run")
  workdir = Workdir.open(str(tmp_path / "run"))
  workdir.keep_tokenizer(captions.train(["another text of other words"], workdir.experiment().tokenizer))
  printed = dalle(capsys, "caption", tmp_path / "run", place / "wide.png", code=2)
  assert "stage transformer was trained with the tokenizer" in printed.err
  assert printed.err.count("\n") == 1


def test_a_run_that_writes_captions_draws_no_pictures(place, capsys):
  printed = dalle(capsys, "sample", place / "run", "a red circle", code=2)
  assert (
    printed.err == "dalle: this transformer was trained image-first: it writes captions of pictures and draws none\n"
  )
  assert not (place / "run" / "samples").exists()


@pytest.mark.slow
def test_it_is_measured_without_drawings(place, capsys):
  printed = dalle(capsys, "eval", place / "run", "--samples", "2")
  assert "loss_text" in printed.out
  found = json.loads((place / "run" / "evaluation.json").read_text())
  assert found["losses"]["transformer"]["loss_text"] > 0
  assert found["composition"] == []
  assert found["captions"]["aspects"]["form"]["single caption"]["of"] == 8
  assert found["captions"]["all_right"][-1]["by_objects"]["all"]["rate"] > 0.5  # the data's own captions


@pytest.mark.slow
def test_while_it_trains_held_out_pictures_are_shown_with_their_likeliest_captions(place, capsys, monkeypatch):
  workdir = Workdir.open(str(place / "run"))
  told = []
  monkeypatch.setattr(showing, "contact_sheet", lambda images, labels, **_: told.append((images, labels)) or images[0])
  (hook,) = showing.hooks("transformer", workdir, open_prepared(place / "data"))
  assert hook.fn(1, workdir.weights("transformer")[0])["captions"].shape == (16, 16, 3)
  ((images, labels),) = told
  Image.fromarray(images[3]).save(place / "held-out.png")
  (found,) = asked(place, capsys, "held-out", "--num", "1", "--temperature", "0")
  printable = "".join(each if each.isprintable() else "\ufffd" for each in labels[3])
  assert printable == found["captions"][0]["text"]
