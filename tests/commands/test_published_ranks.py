"""A published CLIP, converted, chooses among what runs draw: `dalle sample`, `dalle probe`, `dalle eval --metrics`."""

import dataclasses
import json

import converted_clip
import numpy as np
import pytest
import tiny_run

from dalle_jax import cli, evaluate, published
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.evaluation.probes.catalogue import find
from dalle_jax.sampling import draws

CAPTIONS = ["a red circle on the cat", "the cart at a blue square"]
SUITES = ["relative_positions", "shape"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with a run whose weights are drawn at random, and a CLIP of others', converted."""
  directory = tmp_path_factory.mktemp("place")
  tiny_run.workdir(directory / "run", [*CAPTIONS, *(c.text for s in find(SUITES) for c in s.captions())])
  converted_clip.written(directory / "clip")
  return directory


def dalle(*argv, code=0):
  assert cli.main([*map(str, argv)]) == code


def cosines(place, found):
  """Of each caption and each of its pictures, by the CLIP's own two functions."""
  clip, drawer = published.clip(place / "clip/out"), evaluate.drawer(tiny_run.Workdir.open(place / "run"))
  texts_CE = clip.embed_texts(found.captions)
  return np.stack(
    [clip.embed_images(drawer.decode(codes)) @ text_E for codes, text_E in zip(found.codes_CNP, texts_CE)]
  )


def test_it_ranks_what_is_drawn_and_what_was_drawn(place, tmp_path):
  dalle("sample", place / "run", *CAPTIONS, "--num", 5, "--keep", 2, "--clip", place / "clip/out", "--out", tmp_path)
  found = draws.read(tmp_path)
  assert list(found.scores) == ["published"]
  clip = published.clip(place / "clip/out")
  assert set(found.judges) == {"published"}
  expected = cosines(place, found)
  assert np.ptp(expected, axis=1).min() > 1e-3
  assert np.abs(expected[0] - expected[1]).max() > 1e-3
  np.testing.assert_allclose(found.scores["published"], expected, atol=1e-5)
  lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
  kept = [[line["sample"] for line in lines if line["caption"] == caption] for caption in CAPTIONS]
  assert kept == np.argsort(-expected, axis=1)[:, :2].tolist()
  assert {line["ranked by"] for line in lines} == {"the published CLIP"}
  # Its scores are kept, and the run's own CLIP's come beside them. Of another CLIP of the same arrays they are not.
  draws.write(tmp_path, dataclasses.replace(found, scores={"published": found.scores["published"] + 1}))
  again = ("sample", place / "run", "--drawn", tmp_path, "--keep", 1, "--clip", place / "clip/out")
  dalle(*again, "--rank", "published=1,clip=0.5")
  both = draws.read(tmp_path)
  assert set(both.scores) == {"published", "clip"}
  np.testing.assert_array_equal(both.scores["published"], found.scores["published"] + 1)
  stack = dataclasses.replace(clip.model.vision.stack, quick_gelu=not clip.model.vision.stack.quick_gelu)
  vision = dataclasses.replace(clip.model.vision, stack=stack)
  other = dataclasses.replace(clip, model=dataclasses.replace(clip.model, vision=vision))
  drawer = evaluate.drawer(tiny_run.Workdir.open(place / "run"))
  ours, theirs = (evaluate.ranked_by(drawer, each).judges["published"] for each in (clip, other))
  assert ours == found.judges["published"] != theirs


@pytest.mark.slow
def test_each_suite_of_probes_is_ranked_by_its_own_captions(place, tmp_path):
  few = ("--num", 3, "--keep", 2, "--limit", 2)
  dalle("probe", place / "run", *SUITES, *few, "--clip", place / "clip/out", "--out", tmp_path / "new")
  dalle("probe", place / "run", *SUITES, *few, "--out", tmp_path / "own")
  again = ("--drawn", tmp_path / "own", "--keep", 2, "--rank", "published", "--clip", place / "clip/out")
  dalle("probe", place / "run", *SUITES, *again)
  for suite in SUITES:
    for folder in ("new", "own"):
      found = draws.read(tmp_path / folder / suite)
      np.testing.assert_allclose(found.scores["published"], cosines(place, found), atol=1e-5)


@pytest.mark.slow
def test_it_chooses_what_is_measured_and_the_protocol_says_so(place, tmp_path):
  prepare(Scenes(Config(image=16, train=4, valid=4, test=6, test_pairs=4)), tmp_path / "data")
  common = ("eval", place / "run", "--data", tmp_path / "data", "--metrics", "composition", "--best-of", 8)
  dalle(*common, "--rank", "published", "--clip", place / "clip/out", "--out", tmp_path / "published")
  dalle(*common, "--rank", "clip", "--out", tmp_path / "clip")
  ranked, codes = {}, {}
  for by in ("published", "clip"):
    written = json.loads((tmp_path / by / "eval.json").read_text())
    drawn = next(each for each in written["figures"] if each["of"] == "drawn")
    ranked[by] = written["protocols"][drawn["protocol"]]["ranked"]
    [codes[by]] = [np.load(f)["codes"] for f in (tmp_path / by).glob("parts/*/*.npz") if "codes" in np.load(f).files]
  assert ranked["published"]["published"]["sha256"] == published.clip(place / "clip/out").digest
  assert ranked["published"]["by"] == {"published": 1.0}
  assert set(ranked["clip"]) == {"by", "clip", "model"}
  assert (codes["published"] != codes["clip"]).any()


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["sample", "RUN", "a cat", "--rank", "published"], "--rank published: by which CLIP? Name what `dalle convert`"),
    (["sample", "RUN", "a cat", "--rank", "clip", "--clip", "CLIP"], "which --rank published alone reads"),
    (["sample", "RUN", "a cat", "--clip", "nowhere"], "nowhere holds no converted CLIP: `dalle convert"),
    (["sample", "RUN", "a cat", "--clip", ""], "--clip"),
    (["probe", "RUN", "shape", "--rank", "published"], "--rank published: by which CLIP?"),
    (["probe", "RUN", "shape", "--rank", "likelihood", "--clip", "CLIP"], "which --rank published alone reads"),
    (["eval", "RUN", "--rank", "published"], "add --metrics composition --best-of 32 --clip DIR"),
    (
      ["eval", "RUN", "--metrics", "composition", "--best-of", "2", "--rank", "published"],
      "got --rank published: by which CLIP? Name what `dalle convert` made of one, --clip DIR",
    ),
    (["eval", "RUN", "--metrics", "composition", "--clip", "CLIP"], "got --clip, which composition does not read"),
  ],
)
def test_a_clip_that_is_missing_or_not_read_is_one_line(place, tmp_path, capsys, argv, says):
  names = {"RUN": str(place / "run"), "CLIP": str(place / "clip/out")}
  out = [] if argv[0] == "eval" and "--metrics" not in argv else ["--out", str(tmp_path / "out")]
  dalle(*[names.get(word, word) for word in argv], *out, code=2)
  [line] = capsys.readouterr().err.splitlines()
  assert line.startswith("dalle: ")
  assert says in line
  assert not (tmp_path / "out").exists()
