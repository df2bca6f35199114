"""`dalle probe`: its flags, told before anything is loaded, and a whole run of it from a workdir to pages."""

import dataclasses
import json

import browser
import numpy as np
import pytest
import tiny_run
from PIL import Image

from dalle_jax import cli
from dalle_jax.commands.probe import Flags
from dalle_jax.data.images import CentreCrop
from dalle_jax.evaluation.probes.catalogue import SUITES, find
from dalle_jax.evaluation.probes.subset import subset
from dalle_jax.models import dvae
from dalle_jax.sampling import draws, prompts
from dalle_jax.workdir import Workdir

# The same shapes in every test, so that what is compiled for one serves all.
FOUR = ("--num", "3", "--keep", "2", "--limit", "4")
KNOWN = {suite.name: [caption.text for caption in suite.captions()] for suite in find(["relative_positions"])}


def dalle(capsys, *argv, code=0):
  """What a command printed, as lines of its output and of what it said."""
  assert cli.main(["probe", *map(str, argv)]) == code
  printed = capsys.readouterr()
  return printed.out.splitlines(), printed.err.splitlines()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir whose tokenizer knows the blocks of one suite."""
  texts = [text for captions in KNOWN.values() for text in captions]
  return tiny_run.workdir(tmp_path_factory.mktemp("run"), texts * 3).path


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
  file = tmp_path_factory.mktemp("picture") / "given.png"
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
  return file


def test_the_list_holds_every_suite_with_its_heading_and_number_of_captions(capsys):
  out, said = dalle(capsys, "--list")
  assert not said
  rows = {line.split()[0]: line for line in out}
  for suite in SUITES:
    assert f" {len(suite)} captions" in rows[suite.name]
    assert ("goes on from" in rows[suite.name]) == bool(suite.image_prompt)
    assert suite.category.name in rows


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["run"], "got run, wanted: dalle probe WORKDIR SUITE ..."),
    (["--num", "3"], "wanted: dalle probe WORKDIR SUITE ..."),
    (["run", "shap"], "no suite 'shap'; did you mean 'shape'?"),
    (["run", "shape", "--limit", "0"], "got --limit 0, wanted at least 1"),
    (["run", "shape", "--num", "0"], "got --num 0, wanted at least 1"),
    (["run", "shape", "--num", "2", "--keep", "3"], "got --keep 3 of --num 2, wanted no more than are drawn"),
    (["run", "shape", "--batch", "0"], "got --batch 0, wanted at least 1"),
    (["run", "shape", "--seed", "-1"], "got --seed -1, wanted 0 or more"),
    (["run", "shape", "--top-k", "-1"], "got --top-k -1, wanted 0 or more"),
    (["run", "shape", "--temperature", "-1"], "got temperature=-1.0"),
    (["run", "shape", "--limt", "3"], "there is no flag --limt. Perhaps you meant: --limit"),
    (["run", "shape", "--limit", "few"], "got --limit few, wanted a whole number"),
    (["run", "timelines"], "timelines goes on from a picture (the upper edge of a plain background): add --image-pro"),
    (["run", "time"], "timelines goes on from a picture"),
    (["run", "all", "landmarks"], "landmarks goes on from a picture (sky): add --image-prompt PICTURE"),
    (["run", "shape", "--rows", "3"], "--rows says how much of a picture is given: add --image-prompt PICTURE"),
    (["run", "shape", "--image-prompt", "PICTURE"], "no suite of shape goes on from a picture: leave --image-prompt"),
    (["run", "timelines", "--image-prompt", "no.png"], "cannot read the picture no.png: No such file or directory"),
    (["run", "timelines", "--image-prompt", "PICTURE", "--rows", "4"], "got 4 rows of a picture of 4 rows of codes"),
    (["run", "timelines", "--image-prompt", "PICTURE", "--rows", "0"], "got 0 rows of a picture of 4 rows of codes"),
    (["nowhere", "shape"], "nowhere is not a workdir: it holds no experiment.json"),
    (["run", "shape", "--out", "PICTURE"], "given.png: it is a file; take another --out"),
    (
      ["run", "shape", "--rank", "beauty"],
      "got --rank beauty, wanted one of clip, likelihood, probability, published, or",
    ),
    (["run", "shape", "--drawn", "none"], "none holds no draws.npz of shape: draw it first, with --out none"),
    (["run", "animals", "--drawn", "none"], "none holds no draws.npz of anthropomorphism: draw it first"),
    (["run", "shape", "--drawn", "none", "--num", "3"], "--drawn draws nothing, so --num would not be read"),
    (["run", "shape", "--drawn", "none", "--limit=3"], "--drawn draws nothing, so --limit would not be read"),
  ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(tmp_path, run, picture, monkeypatch, capsys, argv, says):
  monkeypatch.chdir(tmp_path)
  argv = [{"run": str(run), "PICTURE": str(picture)}.get(word, word) for word in argv]
  out, said = dalle(capsys, *argv, *([] if "--out" in argv else ["--out", "new"] if len(argv) > 1 else []), code=2)
  assert not out
  (line,) = said
  assert says.replace("run", str(run), 1) in line if says.startswith("got run") else says in line
  assert not list(tmp_path.iterdir())
  assert not (run / "probes").exists()


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
  """Two suites of blocks and one of shapes, as the command writes them; run twice, with other suites."""
  out = tmp_path_factory.mktemp("probes") / "out"
  flags = [*FOUR, "--seed", "5", "--out", str(out)]
  assert (
    cli.main(["probe", str(run), "relative_positions", "im2im_object", "--image-prompt", str(_any(out)), *flags]) == 0
  )
  assert cli.main(["probe", str(run), "shape", *flags]) == 0
  return out


def _any(out):
  file = out.parent / "two.png"
  Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
  return file


def rows(out, suite):
  return [json.loads(line) for line in (out / suite / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["shape", "relative_positions", "im2im_object"])
def test_pictures_lines_and_a_page_of_the_seeds_captions_are_written(drawn, name):
  (suite,) = find([name])
  chosen = subset(suite, 4, 5)
  found = rows(drawn, name)
  assert [row["caption"] for row in found] == [caption.text for caption in chosen for _ in range(2)]
  for row in found:
    with Image.open(drawn / name / row["file"]) as image:
      assert image.size == (16, 16)
    assert len(row["codes"]) == 16
    assert (row["experiment"], row["seed"], row["samples a caption"]) == ("tiny", 5, 3)
    assert row["words"] == {key: word.text for key, word in chosen[row["caption_number"]].chosen.items()}
  by_caption = [found[i : i + 2] for i in range(0, len(found), 2)]
  assert all(first["score"] >= second["score"] for first, second in by_caption)
  page = (drawn / name / "index.html").read_text()
  assert all(row["file"] in page for row in found)


def test_of_a_picture_as_many_rows_are_given_as_the_suite_says_in_the_upper_of_two_panels(drawn, run):
  panels = prompts.two_panels(prompts.read_picture(str(drawn.parent / "two.png")))
  image = CentreCrop(size=16)(panels, np.random.default_rng(0))
  weights, _ = Workdir.open(run).weights("dvae")
  codes = np.asarray(dvae.encode_images(weights, tiny_run.VAE, image[None])).reshape(-1)
  found = rows(drawn, "im2im_object")
  assert all(row["codes"][:8] == codes[:8].tolist() for row in found)  # 15 of 32 rows are 2 of 4
  assert len({tuple(row["codes"][8:]) for row in found}) > 1
  assert {row["picture"] for row in found} == {"two.png: the top 2 rows of codes are given"}


def test_the_overview_leads_to_all_suites_that_are_there_whichever_call_drew_them(drawn):
  page = (drawn / "index.html").read_text()
  for name in ("shape", "relative_positions", "im2im_object"):
    assert f'href="{name}/index.html"' in page
  assert 'href="material/index.html"' not in page


def test_what_was_drawn_before_is_replaced(run, tmp_path, capsys):
  for seed in (0, 1):
    dalle(capsys, run, "shape", *FOUR, "--seed", seed, "--out", tmp_path)
  folders = {row["file"].split("/")[0] for row in rows(tmp_path, "shape")}
  assert {path.name for path in (tmp_path / "shape").iterdir() if path.is_dir()} == folders
  assert len(folders) == 4


def test_a_caption_is_drawn_alike_whatever_else_is_drawn(drawn, run, tmp_path, capsys):
  dalle(capsys, run, "shape", "material", *FOUR, "--seed", 5, "--out", tmp_path, "--batch", 2)
  assert [row["codes"] for row in rows(tmp_path, "shape")] == [row["codes"] for row in rows(drawn, "shape")]


def files(folder):
  return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_all_that_was_drawn_is_kept_and_ranked_anew_without_drawing(run, tmp_path, capsys):
  picture = ("--image-prompt", _any(tmp_path / "out"))
  drawing = (run, "shape", "im2im_object", *picture, *FOUR, "--seed", 5)
  dalle(capsys, *drawing, "--out", tmp_path / "by-clip")
  dalle(capsys, *drawing, "--rank", "likelihood", "--out", tmp_path / "by-own")
  kept, own = (draws.read(tmp_path / name / "shape") for name in ("by-clip", "by-own"))
  assert (list(kept.scores), list(own.scores)) == (["clip"], ["likelihood"])
  assert kept.captions == own.captions == tuple(caption.text for caption in subset(find(["shape"])[0], 4, 5))
  np.testing.assert_array_equal(kept.codes_CNP, own.codes_CNP)
  assert kept.codes_CNP.shape == (4, 3, 16)
  again = (run, "shape", "im2im_object", "--drawn", tmp_path / "by-clip", "--keep", 2)
  before = files(tmp_path / "by-clip")
  out, said = dalle(capsys, *again, "--rank", "likelihood", "--out", tmp_path / "anew")
  assert out == [str(tmp_path / "anew/index.html")]
  assert said[-1].endswith("so the likelihood ranks by comparing with a caption never seen")
  assert said[:-1] == ["ranking: 12", "ranking: 12"]
  grown = {"shape/draws.npz", "im2im_object/draws.npz"}
  assert {str(file) for file, content in files(tmp_path / "by-clip").items() if before[file] != content} == grown
  for suite in ("shape", "im2im_object"):
    anew, expected = rows(tmp_path / "anew", suite), rows(tmp_path / "by-own", suite)
    assert {row["ranked by"] for row in anew} == {"likelihood"}
    for row, other in zip(anew, expected, strict=True):
      numbers = ("score", "scores")
      assert {k: row[k] for k in row if k not in numbers} == {k: other[k] for k in other if k not in numbers}
      assert row["score"] == pytest.approx(other["score"], abs=1e-3)
    assert [row["sample"] for row in anew] != [row["sample"] for row in rows(tmp_path / "by-clip", suite)]
  page = (tmp_path / "anew/shape/index.html").read_text()
  assert all(row["file"] in page for row in rows(tmp_path / "anew", "shape"))
  # Both scores are kept by now, and the folder's own page is written where no other is named.
  _, said = dalle(capsys, *again[:-1], 1, "--rank", "clip=1,likelihood=2")
  assert len(said) == 1  # that of the likelihood
  assert len(rows(tmp_path / "by-clip", "shape")) == 4
  assert "1 CLIP + 2 likelihood" in (tmp_path / "by-clip/shape/index.html").read_text()
  assert len(list((tmp_path / "by-clip/shape").glob("*/0*.png"))) == 4
  _, said = dalle(capsys, run, "all", "--drawn", tmp_path / "by-clip")  # those that were drawn
  assert len(rows(tmp_path / "by-clip", "shape")) == len(rows(tmp_path / "by-clip", "im2im_object")) == 12


def test_draws_that_do_not_fit_are_refused_before_anything_is_written(drawn, run, tmp_path, capsys):
  found = draws.read(drawn / "shape")
  for suite in ("shape", "relative_positions"):
    draws.write(tmp_path / "whole" / suite, draws.read(drawn / suite))
  cases = {
    "other weights of dvae": dataclasses.replace(found, weights=found.weights | {"dvae": "another"}),
    "which is no caption of shape: draw anew": dataclasses.replace(found, captions=("a cat", *found.captions[1:])),
    "got --keep 2, and": dataclasses.replace(
      found, codes_CNP=found.codes_CNP[:, :1], scores={"clip": found.scores["clip"][:, :1]}
    ),
  }
  asked = (run, "relative_positions", "shape", "--drawn", tmp_path / "whole", "--rank", "likelihood", "--keep", 2)
  for says, changed in cases.items():
    draws.write(tmp_path / "whole/shape", changed)
    before = files(tmp_path)
    _, (line,) = dalle(capsys, *asked, code=2)
    assert says in line
    assert files(tmp_path) == before


def test_that_words_are_not_known_or_not_read_is_said_once_a_suite_and_on_its_page(run, tmp_path, capsys):
  _, said = dalle(capsys, run, "emojis", "relative_positions", "stacking_snap", *FOUR, "--out", tmp_path)
  unknown = "emojis: this checkpoint does not know the words of 4 of 4 captions: its tokenizer leaves more than 30 %"
  assert [line for line in said if "know" in line] == [
    line for line in said if line.startswith((unknown, "stacking_snap: this"))
  ]
  assert sum(line.startswith(unknown) for line in said) == 1
  assert "stacking_snap: 4 of 4 captions have more than 31 tokens; what follows these is not read" in said
  assert "does not know the words of 4 of 4" in (tmp_path / "emojis/index.html").read_text()
  assert "does not know" not in (tmp_path / "relative_positions/index.html").read_text()


def test_a_heading_without_a_picture_is_drawn_but_for_those_that_want_one_and_they_are_named(run, tmp_path, capsys):
  _, said = dalle(capsys, run, "perspective", *FOUR, "--out", tmp_path)
  assert "without --image-prompt these are passed over: rotating_head, rotating_mirror" in said
  assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"camera_angles", "three_d_views"}


def test_the_blogs_numbers_are_what_is_drawn_where_none_are_given():
  assert (Flags().num, Flags().limit, Flags().temperature, Flags().guidance) == (512, 12, 1.0, 1.0)


def test_the_page_of_the_command_shows_the_pictures_of_the_words_that_are_clicked(drawn):
  by_caption = {}
  for row in rows(drawn, "relative_positions"):
    by_caption.setdefault(row["caption"], []).append(row["file"])
  with browser.opened() as chromium:
    chromium.open(drawn / "index.html")
    assert len(chromium.pictures()) == 3
    chromium.all('a[href="relative_positions/index.html"]')[0].click()
    seen = set()
    for button in range(len(chromium.all("#caption button"))):
      for _ in range(4):
        chromium.all("#caption button")[button].click()
        caption = "".join(chromium.texts("#caption"))
        assert chromium.pictures("#pictures img") == by_caption[caption]
        seen.add(caption)
    assert seen == set(by_caption)
    chromium.check()


def test_the_gallery_of_sample_opens_with_all_of_its_pictures_and_no_script(run, tmp_path, capsys):
  captions = ("a small red block", "a <b>large</b> block", "a green block", "a blue block")
  assert cli.main(["sample", str(run), *captions, "--num", "3", "--keep", "2", "--out", str(tmp_path)]) == 0
  capsys.readouterr()
  with browser.opened() as chromium:
    chromium.open(tmp_path / "index.html")
    assert chromium.texts("h2") == list(captions)
    files = chromium.pictures()
    listed = [json.loads(line)["file"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert files == listed
    assert not chromium.all("script")
    chromium.all("figure a")[1].click()
    assert chromium.driver.current_url == (tmp_path / listed[1]).as_uri()
    chromium.driver.back()
    chromium.all("p.note a")[0].click()
    assert chromium.driver.current_url.endswith("sheet.png")
    chromium.check()
