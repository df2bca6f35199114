"""`dalle eval --metrics`, from a workdir and its data to eval.json and a page; ended in the middle, it goes on."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import inception_arrays
import numpy as np
import pytest
import tiny_run
from safetensors.numpy import save_file

from dalle_jax import cli, measure, places
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import PreparedSource, open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError
from dalle_jax.evaluation import exclusion, reference
from dalle_jax.evaluation.metrics import comparison, result
from dalle_jax.evaluation.metrics import dvae as dvae_figures
from dalle_jax.measure import asked, run, samples
from dalle_jax.measure.asked import Asked, Setting, sweep
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.workdir import Workdir

ALL = ("nll", "elb", "psnr", "ssim", "codes", "loss", "fd_clip", "clip_score", "r_precision", "composition")
SETTINGS = sweep(["guidance=1,2"], Setting(best_of=2))
TESTED = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with prepared scenes, and a workdir whose weights are drawn at random."""
  directory = tmp_path_factory.mktemp("place")
  prepare(Scenes(Config(image=16, train=8, valid=4, test=TESTED, test_pairs=4)), directory / "data")
  tiny_run.workdir(directory / "run", ["a red circle", "a blue square on white", "a green star"] * 3)
  return directory


def measured(place, wanted, out, **more):
  return measure.measure(tiny_run.Workdir.open(place / "run"), wanted, out=out, data=place / "data", **more)


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
  out = tmp_path_factory.mktemp("whole")
  wanted = Asked(metrics=ALL, batch=4, blur=(0.0, 1.0), settings=SETTINGS, pictures=8)
  return measured(place, wanted, out), out


def values(done):
  return {each.figure.key: each.figure.value for each in done.measured}


@pytest.mark.slow
def test_every_figure_that_is_asked_for_is_there(whole):
  done, out = whole
  figures = [each.figure for each in done.measured]
  names = {each.metric for each in figures}
  wanted = (
    "nll",
    "elb_hard",
    "elb_relaxed",
    "psnr",
    "ssim",
    "codes_used",
    "loss",
    "loss_image",
    "fd_clip",
    "clip_score",
  )
  assert {*wanted, "r_precision", "composition", "composition_shape"} <= names
  assert {(each.of, each.setting) for each in figures if each.metric == "composition"} == {
    *(("drawn", "guidance=1"), ("drawn", "guidance=2"), ("real", "")),
  }
  assert {each.blur for each in figures if each.metric == "fd_clip"} == {0, 1}
  all_of_them = [each for each in figures if not each.metric.startswith("composition_")]
  assert {each.examples for each in all_of_them if each.of == "drawn"} == {8}
  assert {each.examples for each in all_of_them if each.of != "drawn"} == {TESTED}
  assert result.read(out / "eval.json") == list(done.measured)
  text = done.page.read_text()
  assert text.count("picture-") >= 12
  assert "blur-fd_clip-light.png" in text
  assert "sweep-fd_clip-clip_score-light.png" in text
  assert all((out / "page" / name).stat().st_size > 100 for name in ("cells-light.png", "drawn-1-07.png"))


@pytest.mark.slow
def test_every_figure_says_how_it_was_made(whole):
  for each in whole[0].measured:
    about = each.protocol
    assert {"data", "crop", "experiment", "checkpoints", "versions", "commit", "device", "exclusion"} <= set(about)
    assert about["data"]["pictures"] == TESTED
    if each.figure.of == "drawn":
      assert about["sampling"]["guidance"] == float(each.figure.setting.removeprefix("guidance="))
      assert about["best of"] == 2
      assert about["captions"] == {"drawn": 8, "chosen by": "seed"}
      assert set(about["checkpoints"]) == {"dvae", "transformer"}
    if each.figure.metric == "r_precision":  # whose rivals are drawn by the seed, of real pictures too
      assert about["seed"] == 0
      assert about["caption"] == "the first"
    if each.figure.metric in ("fd_clip", "clip_score", "r_precision"):
      assert about["clip"]["network"] == "the run's own CLIP"
      assert len(about["clip"]["sha256"]) == 64
    if each.figure.metric == "fd_clip":
      assert about["reference"] == {"pictures": TESTED, "of": "all of test"}
    if each.figure.blur:
      assert "GaussianBlur" in about["blur"]


@pytest.mark.slow
def test_figures_do_not_depend_on_the_batch_nor_on_where_it_was_ended(place, whole, tmp_path, monkeypatch):
  wanted = Asked(metrics=ALL, batch=3, blur=(0.0, 1.0), settings=SETTINGS, pictures=8)
  own, calls = samples.looked_at.columns, []

  def ends(*args, **kwargs):
    calls.append(len(args[0]))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return own(*args, **kwargs)

  monkeypatch.setattr(samples.looked_at, "columns", ends)
  with pytest.raises(KeyboardInterrupt):
    measured(place, wanted, tmp_path)
  assert not (tmp_path / "eval.json").exists()
  again = measured(place, wanted, tmp_path)
  assert values(again).keys() == values(whole[0]).keys()
  for key, value in values(whole[0]).items():
    assert values(again)[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


@pytest.mark.slow
def test_other_figures_of_the_same_pictures_draw_nothing_anew(place, whole, monkeypatch):
  def draws(*args, **kwargs):
    raise AssertionError("drawn anew")

  monkeypatch.setattr(samples.Drawer, "draw", draws)
  wanted = Asked(metrics=("composition",), batch=4, blur=(2.0,), settings=SETTINGS[:1], pictures=8)
  found = measured(place, wanted, whole[1])
  assert {each.figure.blur for each in found.measured} == {2.0}
  assert {each.figure.of for each in found.measured if each.figure.metric == "composition"} == {"drawn", "real"}


@pytest.mark.slow
def test_a_caption_is_drawn_as_it_is_among_more(place, tmp_path):
  codes, rows = {}, {}
  for n in (5, 8):
    wanted = Asked(metrics=("composition",), pictures=n, batch=4)
    opened = run.begin(tiny_run.Workdir.open(place / "run"), wanted, tmp_path / str(n), data=place / "data")
    rows[n] = samples._rows(opened)
    measured(place, wanted, tmp_path / str(n))
    [file] = [file for file in (tmp_path / str(n)).glob("parts/*/*.npz") if "codes" in np.load(file).files]
    codes[n] = np.load(file)["codes"]
  assert set(rows[5]) < set(rows[8])
  shared = np.isin(rows[8], rows[5])
  np.testing.assert_array_equal(codes[8][shared], codes[5])
  assert len(np.unique(codes[5], axis=0)) > 1


@pytest.mark.slow
def test_a_mesh_measures_what_one_device_measures(place, whole, tmp_path):
  wanted = Asked(metrics=("psnr", "elb", "loss", "clip_score"), batch=4, settings=SETTINGS[:1], pictures=8)
  shape = run.MeshShape(data=2, fsdp=2, model=2)
  found = measured(place, wanted, tmp_path, shape=shape)
  assert found.measured[0].protocol["device"].startswith("8 ")
  one = values(whole[0])
  for key, value in values(found).items():
    assert value == pytest.approx(one[key], rel=1e-3), key


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--metrics", "FID"], "got --metrics FID, wanted some of nll, elb"),
    (["--metrics", "fid"], "fid looks through Inception v3: name its weights, --inception pt_inception"),
    (["--metrics", "psnr", "--sweep", "guidance=1,2"], "got --sweep, or a way to draw, which psnr does not read"),
    (["--metrics", "psnr", "loss", "--blur", "0", "4"], "got --blur, which psnr loss does not read"),
    (["--metrics", "psnr", "--clip", "nowhere"], "got --clip, which psnr does not read: leave it out, or add fd_clip"),
    (["--metrics", "clip_score", "--resize", "tensorflow"], "got --resize, which clip_score does not read"),
    (["--metrics", "clip_score", "--reference", "r.npz"], "got --reference, which clip_score does not read"),
    (["--metrics", "composition", "--blur", "nan"], "got --blur nan, wanted radii of 0 or more"),
    (["--metrics", "composition", "--blur", "1", "1.0000001"], "wanted radii of 0 or more, each once"),
    (["--metrics", "composition", "--seed", "-1"], "got --seed -1, wanted 0 to"),
    (
      ["--metrics", "composition", "--sweep", "top_k=0,5", "--top-k", "3"],
      "got --top-k 3 and --sweep top_k=0,5, which",
    ),
    (["--pictures", "5"], "got --pictures, which goes with --metrics or --stage"),
    (["--metrics", "composition", "--sweep", "top_p=0,1"], "got top_p=0.0, wanted more than 0"),
    (["--metrics", "is", "--inception", "INCEPTION", "--pictures", "9"], "is wants 10 pictures at least, got 9"),
    (["--metrics", "clip_score", "--pictures", "1"], "clip_score wants 2 pictures at least, got 1"),
    (["--metrics", "psnr", "--stage", "transformer"], "got --stage transformer, of which psnr says nothing"),
    (["--metrics", "psnr", "--out", "gs://bucket/x"], "got --out gs:/bucket/x, wanted a directory of this machine"),
    (["--metrics", "psnr", "--out", "FOLDER"], "holds something that is no earlier result: take another --out"),
    (["--metrics", "composition", "--sweep", "guidance"], "got --sweep guidance, wanted each of guidance, temperature"),
    (["--metrics", "composition", "--sweep", "guidance=1,x"], "got --sweep guidance=1,x, wanted numbers"),
    (["--metrics", "composition", "--blur", "-1"], "got --blur -1, wanted radii of 0 or more"),
    (["--metrics", "composition", "--pictures", "0"], "got --pictures 0, wanted at least 1"),
    (["--metrics", "composition", "--rank", "clip"], "got --rank clip with one sample a caption: add --best-of 32"),
    (["--metrics", "composition", "--split", "dev"], "the data has no split 'dev'"),
    (["--metrics", "psnr", "--stage", "vae"], "got --stage vae; "),
    (["--stage", "dvae", "--seed", "-1"], "got --seed -1, wanted 0 to"),
    (["--stage", "clip"], "got --stage clip, which is a CLIP: its figures are --metrics fd_clip"),
    (["--metrics", "fid", "--inception", "nowhere"], "no Inception weights at nowhere"),
    (["--metrics", "psnr", "--exclude", "nowhere.json"], "cannot read nowhere.json"),
    (["--metrics", "psnr", "--out", "FILE"], "it is a file; take another --out"),
  ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(place, inception, tmp_path, capsys, argv, says):
  (tmp_path / "file").write_text("")
  names = {"FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path), "INCEPTION": str(inception)}
  argv = [names.get(arg, arg) for arg in argv]
  out = [] if "--out" in argv else ["--out", str(tmp_path / "out")]
  assert cli.main(["eval", str(place / "run"), "--data", str(place / "data"), *argv, *out]) == 2
  [line] = capsys.readouterr().err.splitlines()
  assert line.startswith("dalle: ")
  assert says in line
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_stages_own_figures_and_their_comparison(place, tmp_path, capsys):
  for seed in ("0", "1"):
    out = ["--out", str(tmp_path / seed), "--data", str(place / "data"), "--seed", seed]
    assert cli.main(["eval", str(place / "run"), "--stage", "dvae", *out]) == 0
  told, said = capsys.readouterr()
  assert "rfid is left out: it wants --inception pt_inception" in said
  assert "elb_hard" in told
  assert "rfid" not in told
  names = [str(tmp_path / seed) for seed in ("0", "1")]
  assert cli.main(["compare", *names]) == 2
  assert "elb_hard was not measured alike: seed: 0 / 1" in capsys.readouterr().err
  assert cli.main(["compare", *names, "--across", "seed"]) == 0
  assert "psnr" in capsys.readouterr().out


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
  """A thin Inception with random weights, as its published file would be."""
  file = tmp_path_factory.mktemp("inception") / "thin.pth"
  save_file({name: np.asarray(array) for name, array in inception_arrays.official().items()}, file)
  return file


@pytest.mark.slow
def test_figures_through_inception_are_those_of_its_features(place, inception, tmp_path, capsys):
  data = str(place / "data")
  for radius in ("0", "1"):
    argv = [f"{data}:test", "--out", str(tmp_path / f"{radius}.npz"), "--inception", str(inception)]
    assert cli.main(["reference", *argv, "--crop", "16", "--blur", radius, "--keep"]) == 0
  metrics = ("fid", "kid", "is", "rfid")
  own = Asked(metrics=metrics, batch=4, blur=(0.0, 1.0), inception=str(inception))
  files = tuple(str(tmp_path / f"{radius}.npz") for radius in ("0", "1"))
  held = dataclasses.replace(own, references=files)
  found = {name: measured(place, each, tmp_path / "out") for name, each in (("own", own), ("held", held))}
  for key, value in values(found["own"]).items():
    if key[:2] != ("is", "real"):
      assert values(found["held"])[key] == pytest.approx(value, rel=1e-3, abs=1e-6), key
  by_metric = {each.figure.key[:3]: each for each in found["held"].measured}
  fid, kid = by_metric["fid", "drawn", 1.0], by_metric["kid", "drawn", 0.0]
  assert fid.figure.value != pytest.approx(by_metric["fid", "drawn", 0.0].figure.value, rel=1e-3)
  assert fid.protocol["reference"]["sha256"] == reference.load(files[1]).digest
  assert fid.protocol["inception"]["resize"] == "clean"
  assert "means nothing" in fid.figure.note
  assert kid.protocol["reference"]["pictures"] == TESTED
  assert "rfid" in {each.figure.metric for each in found["own"].measured}
  other = dataclasses.replace(held, resize="tensorflow")
  with pytest.raises(UserError, match="made with resize clean, and the pictures are looked at with tensorflow"):
    measured(place, other, tmp_path / "out")
  with pytest.raises(UserError, match="no --reference of pictures blurred by radius 2"):
    measured(place, dataclasses.replace(held, blur=(0.0, 1.0, 2.0)), tmp_path / "out")
  with pytest.raises(UserError, match="is of pictures blurred by 1, and no such figure is asked for"):
    measured(place, dataclasses.replace(held, blur=(0.0,)), tmp_path / "out")


@pytest.mark.slow
def test_every_figure_is_told_without_the_pictures_of_a_list_too(place, tmp_path):
  source = open_prepared(place / "data").source("test")
  excluded = tuple(exclusion.Excluded(key=source.key(i), cosine=0.9, nearest="x") for i in (0, 5, 7))
  told = {"digest": open_prepared(place / "data").digest(), "split": "test", "place": "data"}
  found = exclusion.Exclusion(
    training={"digest": "t"}, evaluation=told, embedding={"name": "thumbnails"}, threshold=0.8, excluded=excluded
  )
  (tmp_path / "exclude.json").write_text(found.as_json())
  wanted = Asked(metrics=("psnr", "loss", "composition"), batch=4, exclude=str(tmp_path / "exclude.json"))
  done = measured(place, wanted, tmp_path / "out")
  examples = {each.figure.key: each.figure.examples for each in done.measured}
  for each in done.measured:
    if not each.figure.metric.startswith("composition_"):  # which are of captions that say something of an aspect
      assert each.figure.examples == TESTED - each.figure.excluded
    assert each.figure.excluded == (3 if each.figure.without_list else 0)
    assert (each.protocol["exclusion"] is None) == (not each.figure.without_list)
  assert len({key[:-1] for key in examples}) * 2 == len(examples)
  psnr = {each.figure.excluded: each for each in done.measured if each.figure.metric == "psnr"}
  assert psnr[0].figure.value != psnr[3].figure.value
  assert psnr[3].protocol["exclusion"]["threshold"] == 0.8


def test_a_list_that_leaves_none_of_these_out_is_told_as_such(place, tmp_path):
  told = {"digest": open_prepared(place / "data").digest(), "split": "test", "place": "data"}
  nothing = exclusion.Exclusion(training={"digest": "t"}, evaluation=told, embedding={}, threshold=1.0, excluded=())
  (tmp_path / "exclude.json").write_text(nothing.as_json())
  wanted = Asked(metrics=("psnr",), batch=4, exclude=str(tmp_path / "exclude.json"))
  done = measured(place, wanted, tmp_path / "out")
  assert len({each.figure.key for each in done.measured}) == len(done.measured) == 4
  assert comparison.compare(done.measured, done.measured)


def test_what_a_sweep_tries_is_every_combination():
  found = dict(sweep(["guidance=1,3", "top_k=0,5"], Setting(sampling=SamplingConfig(temperature=0.5))))
  assert list(found) == ["guidance=1 top_k=0", "guidance=1 top_k=5", "guidance=3 top_k=0", "guidance=3 top_k=5"]
  assert found["guidance=3 top_k=5"].sampling == SamplingConfig(temperature=0.5, guidance=3.0, top_k=5)
  assert found["guidance=1 top_k=0"].sampling.top_k is None
  assert dict(sweep(["best_of=1,8"], Setting()))["best_of=8"].best_of == 8
  assert sweep([], Setting(best_of=4)) == (("", Setting(best_of=4)),)


def test_an_unknown_metric_is_refused():
  with pytest.raises(UserError, match="wanted some of"):
    asked.Asked(metrics=("fdi",))


@pytest.mark.slow
def test_a_killed_measurement_goes_on_to_the_same_figures(place, whole, tmp_path):
  argv = [sys.executable, "-m", "dalle_jax", "eval", str(place / "run"), "--data", str(place / "data")]
  argv += ["--metrics", *ALL, "--batch", "4", "--blur", "0", "1", "--sweep", "guidance=1,2", "--best-of", "2"]
  argv += ["--pictures", "8", "--out", str(tmp_path / "out"), "--mesh.data", "1"]
  env = os.environ | {"XLA_FLAGS": ""}
  process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  parts = tmp_path / "out" / "parts"
  deadline = time.monotonic() + 240
  while len(list(parts.glob("*/*.npz"))) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  assert not (tmp_path / "out" / "eval.json").exists()
  kept = {file: file.stat().st_mtime_ns for file in parts.glob("*/*.npz")}
  assert kept
  subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
  assert all(file.stat().st_mtime_ns == before for file, before in kept.items())
  found = {each.figure.key: each.figure.value for each in result.read(tmp_path / "out" / "eval.json")}
  wanted = values(whole[0])
  assert found.keys() == wanted.keys()
  np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=1e-4, atol=1e-6)


def test_captions_that_are_all_the_same_have_no_r_precision(place, tmp_path, monkeypatch):
  monkeypatch.setattr(PreparedSource, "captions", lambda source: iter([["a red circle"]] * len(source)))
  with pytest.raises(UserError, match="all of these have the same"):
    measured(place, Asked(metrics=("r_precision",), batch=4), tmp_path / "out")
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_measurement_in_a_bucket_goes_on_on_another_machine(place, tmp_path, bucket_environment, monkeypatch):
  there = places.at("gs://bucket/measured")
  for file in (file for file in (place / "run").rglob("*") if file.is_file()):
    places.upload(file, there / str(file.relative_to(place / "run")))
  wanted = Asked(metrics=("psnr", "ssim"), batch=4)
  monkeypatch.setenv("DALLE_CACHE", str(tmp_path / "one"))

  def ends(what, done, total):
    if done == total:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    measure.measure(Workdir.open(there), wanted, data=place / "data", progress=ends)
  monkeypatch.setenv("DALLE_CACHE", str(tmp_path / "other"))
  monkeypatch.setattr(dvae_figures, "measure", lambda *args, **kwargs: pytest.fail("measured anew"))
  done = measure.measure(Workdir.open(there), wanted, data=place / "data")
  assert {each.figure.metric for each in done.measured} == {"psnr", "psnr_of_each", "ssim"}
  assert str(done.page) == "gs://bucket/measured/metrics/index.html"
  names = places.files(there)
  assert {"metrics/eval.json", "metrics/index.html"} <= set(names)
