"""`dalle train --every`: points at the steps asked for, the same whether a run was interrupted or not."""

import dataclasses
import shutil

import converted_clip
import numpy as np
import pytest
import tiny_run
import toy_drawer
from PIL import Image
from scipy import stats

from dalle_jax import cli, processes, prompt_metrics, published, run
from dalle_jax.data import judge, scene_parsing
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError
from dalle_jax.evaluation import prompt_log, report
from dalle_jax.evaluation.examples import first
from dalle_jax.evaluation.report import Trained
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.prompt_metrics import Asked
from dalle_jax.sampling import rerank
from dalle_jax.training import metrics
from dalle_jax.workdir import Workdir

STEPS = 8
PARTI = "Prompt\tCategory\tChallenge\tNote\na red circle\tIllustrations\tBasic\t\na blue square\tArts\tBasic\t\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """Scenes, and the experiment that trains a transformer on them beside a dVAE and a CLIP that are there."""
  directory = tmp_path_factory.mktemp("place")
  prepare(Scenes(Config(image=16, train=24, valid=10, test=4, test_pairs=2)), directory / "data")
  (directory / "parti.tsv").write_text(PARTI)
  return directory


def experiment(place):
  own = dataclasses.replace(tiny_run.experiment(), data=str(place / "data"))
  often = {"save_every": 3, "keep": 9, "log_every": 1, "show_every": STEPS}
  longer = dataclasses.replace(own.stages["transformer"], steps=STEPS, **often)
  return dataclasses.replace(own, stages=own.stages | {"transformer": longer})


def begun(place, path):
  """A workdir whose transformer has not begun."""
  workdir = tiny_run.workdir(path, ["a red circle", "a blue square"], experiment(place))
  shutil.rmtree(path / "transformer")
  return workdir


ALL = Asked(every=3, metrics=("losses", "composition", "clip"), limit=6)


@pytest.fixture(scope="module")
def whole(place):
  begun(place, place / "whole")
  return run.run(experiment(place), place / "whole", measured=ALL)


@pytest.mark.slow
def test_points_stand_at_the_steps_asked_for_and_after_the_last(whole):
  protocol, rows = prompt_log.read(whole.path / "transformer")
  assert [row["step"] for row in rows] == [3, 6, 8]
  assert {"composition", "composition_low", "composition_high", "clip", "held_out_loss"} <= set(rows[0])
  assert len({row["held_out_loss"] for row in rows}) == 3
  assert len({row["clip"] for row in rows}) > 1
  assert protocol["split"] == "valid"
  assert protocol["clip"] == whole.weights("clip")[1]
  with Image.open(whole.path / "transformer/prompt_metrics.png") as image:
    assert image.size[1] > 900  # three panels
  told = {row["step"]: row for row in metrics.read(whole.path / "transformer/metrics.jsonl") if "prompts_clip" in row}
  assert {step: row["prompts_clip"] for step, row in told.items()} == {row["step"]: row["clip"] for row in rows}
  assert len(list((whole.path / "transformer/pictures").glob("prompts_samples-*.png"))) == 3


@pytest.mark.slow
def test_an_interrupted_run_has_the_same_points(place, whole):
  path = place / "resumed"
  shutil.copytree(whole.path, path)
  for step in ("6", "8"):
    shutil.rmtree(path / "transformer/checkpoints" / step)
  assert Workdir.open(path).step("transformer") == 3
  before = prompt_log.read(path / "transformer")
  run.run(experiment(place), path, measured=ALL)
  assert Workdir.open(path).step("transformer") == STEPS
  assert prompt_log.read(path / "transformer") == before
  shutil.rmtree(path / "transformer/checkpoints/8")
  with pytest.raises(UserError, match=r"transformer's prompt_metrics\.jsonl was begun with captions 6, and not 5"):
    run.run(experiment(place), path, measured=dataclasses.replace(ALL, limit=5))
  run.run(experiment(place), path, measured=dataclasses.replace(ALL, every=4))  # how often does not matter
  assert [row["step"] for row in prompt_log.read(path / "transformer")[1]] == [3, 6, 8]


@pytest.mark.slow
def test_the_last_point_is_what_the_last_checkpoint_gives_by_itself(place, whole):
  """Drawn by the sampler, judged, scored and measured one by one, of the weights read back."""
  row = prompt_log.read(whole.path / "transformer")[1][-1]
  prepared, words = open_prepared(place / "data"), whole.tokenizer()
  asked = first(prepared, "valid", 6, size=16, words=words)
  drawer = report.drawer({name: trained(whole, name) for name in ("dvae", "transformer")}, 64)
  drawn = np.stack([each.images_KHWC[0] for each in drawer.draw(asked.text_NT, num=1, seed=0)])
  verdicts = [judge.judge(drawn[i : i + 1], [claims])[0].all_right for i, claims in enumerate(asked.claims)]
  assert row["composition"] == np.mean(verdicts)
  params, cfg = whole.weights("clip")[0], tiny_run.TOWERS
  cosines = np.sum(
    np.asarray(rerank.embed_pictures(params, cfg, drawn))
    * np.asarray(rerank.embed_captions(params, cfg, asked.text_NT)),
    axis=1,
  )
  assert row["clip"] == pytest.approx(cosines.mean(), abs=1e-5)
  found = report.held_out_losses(
    {name: trained(whole, name) for name in ("dvae", "transformer")}, prepared, "valid", words, lambda *told: None
  )
  assert row["held_out_loss"] == pytest.approx(found["transformer"]["loss"], rel=1e-5)


def trained(workdir, name):
  stage = workdir.experiment().stage(name)
  params, digest = workdir.weights(name)
  return Trained(objective=stage.objective, params=params, digest=digest, batch=stage.batch, step=stage.steps)


def hook(place, path, **asked):
  (found,) = prompt_metrics.hooks(
    Asked(every=5, **asked), "transformer", begun(place, path), open_prepared(place / "data"), lambda line: None
  )
  return found


def weights():
  return toy_drawer.weights(TransformerNll(model=tiny_run.STREAM).init, 3)


@pytest.mark.slow
def test_partiprompts_has_a_mean_for_each_category_and_challenge(place, tmp_path):
  own = hook(place, tmp_path / "w", metrics=("clip",), prompts=str(place / "parti.tsv"))
  assert own.every == 5
  told = own.fn(5, weights())
  assert set(told) == {
    "prompts_clip",
    "prompts_clip/Illustrations",
    "prompts_clip/Arts",
    "prompts_clip/Basic",
    "prompts_samples",
  }
  assert told["prompts_clip/Basic"] == pytest.approx(told["prompts_clip"])
  halves = told["prompts_clip/Illustrations"], told["prompts_clip/Arts"]
  assert np.mean(halves) == pytest.approx(told["prompts_clip"], abs=1e-6)
  assert halves[0] != halves[1]
  assert prompt_log.read(tmp_path / "w/transformer")[1] == [
    {"step": 5} | {name.removeprefix("prompts_"): value for name, value in told.items() if isinstance(value, float)}
  ]


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--metrics", "losses"], "--metrics, --prompts and --clip are read by --every alone"),
    (["--prompts-limit", "5"], "--metrics, --prompts and --clip are read by --every alone"),
    (["--every", "5", "--metrics", "clip", "--prompts-limit", "0"], "got --prompts-limit 0, wanted at least 1"),
    (["--every", "5"], "--every wants --metrics: one or more of losses, composition, clip"),
    (["--every", "0", "--metrics", "losses"], "got --every 0, wanted at least 1"),
    (["--every", "5", "--metrics", "losses", "losses"], "got --metrics losses twice"),
    (["--every", "5", "--metrics", "losses", "--clip", "x"], "--clip x is read by --metrics clip alone"),
    (
      ["--every", "5", "--metrics", "clip", "--clip", "nowhere"],
      "nowhere holds no converted CLIP: `dalle convert ViT-B-32.pt",
    ),
    (["--every", "5", "--metrics", "fid"], "--metrics"),
    (["--every", "5", "--metrics", "losses", "--prompts", "x"], "--prompts is read by the metrics of pictures alone"),
    (["--every", "5", "--metrics", "clip", "--prompts", "nowhere"], "cannot read the captions nowhere"),
    (["--every", "5", "--metrics", "composition", "--prompts", "strange.txt"], "nothing judges the caption 'a cat'"),
    (["--every", "5", "--metrics", "clip", "--only", "dvae"], "wants a stage that draws; dvae draw nothing"),
    (["--every", "5", "--metrics", "clip"], "and clip has no weights yet: train it first, with --only clip"),
  ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(place, monkeypatch, capfd, flags, says):
  monkeypatch.chdir(place)
  (place / "strange.txt").write_text("a red circle\na cat\n")
  (place / "tiny.py").write_text(
    "import dataclasses, sys\n"
    f"sys.path.insert(0, {str(tiny_run.__file__.rpartition('/')[0])!r})\n"
    "import tiny_run\n"
    "def experiment():\n  return dataclasses.replace(tiny_run.experiment(), data='data')\n"
  )
  assert scene_parsing.parse("a red circle") is not None
  assert cli.main(["train", "tiny.py", "--workdir", "w", *flags]) == 2
  printed = capfd.readouterr()
  assert says in printed.err
  assert printed.err.splitlines()[-1].startswith("dalle: ")
  assert "Traceback" not in printed.err
  assert not (place / "w").exists()


@pytest.mark.slow
def test_a_converted_clip_scores_in_place_of_the_runs_own(place, tmp_path):
  directory = converted_clip.written(tmp_path / "clip")
  told = hook(place, tmp_path / "w", metrics=("clip",), limit=3, clip=directory).fn(5, weights())
  own = hook(place, tmp_path / "v", metrics=("clip",), limit=3).fn(5, weights())
  assert (told["prompts_samples"] == own["prompts_samples"]).all()
  assert told["prompts_clip"] != own["prompts_clip"]
  prepared, clip = open_prepared(place / "data"), published.clip(directory)
  run_ = Workdir.open(tmp_path / "w")
  asked = first(prepared, "valid", 3, size=16, words=run_.tokenizer())
  drawer = report.drawer({"dvae": trained(run_, "dvae"), "t": drawn_by(run_)}, 64)
  images_NHWC = np.stack([each.images_KHWC[0] for each in drawer.draw(asked.text_NT, num=1, seed=0)])
  cosines = np.sum(clip.embed_images(images_NHWC) * clip.embed_texts(asked.captions), axis=1)
  assert told["prompts_clip"] == pytest.approx(cosines.mean(), abs=1e-5)
  assert prompt_log.read(tmp_path / "w/transformer")[0]["clip"] == clip.digest


def drawn_by(workdir):
  stage = workdir.experiment().stage("transformer")
  return Trained(objective=stage.objective, params=weights(), digest="", batch=8, step=5)


def test_every_process_has_the_hook_and_the_first_one_alone_measures(place, monkeypatch, tmp_path):
  # All gather the weights for it, so one without the hook would leave the others waiting.
  workdir, prepared = begun(place, tmp_path / "w"), open_prepared(place / "data")
  monkeypatch.setattr(processes, "index", lambda: 1)
  (found,) = prompt_metrics.hooks(ALL, "transformer", workdir, prepared, lambda line: None)
  assert found.every == ALL.every
  assert found.fn(3, None) is None
  assert not (tmp_path / "w/transformer").exists()


def test_composition_is_the_share_that_the_judge_finds_right(tmp_path):
  prepare(Scenes(Config(image=32, train=2, valid=8, test=2, test_pairs=2)), tmp_path / "data")
  prepared = open_prepared(tmp_path / "data")
  asked = first(prepared, "valid", 8, size=32, words=toy_drawer.tokenizer())
  measure = prompt_metrics._composition(asked.claims)
  for images_NHWC in (asked.images_NHWC, np.concatenate([asked.images_NHWC[:4], asked.images_NHWC[4:][::-1]])):
    right = [each.all_right for each in judge.judge(images_NHWC, asked.claims)]
    found = measure(images_NHWC)
    expected = stats.binomtest(sum(right), 8).proportion_ci(0.95, method="wilson")
    assert found["composition"] == np.mean(right)
    assert (found["composition_low"], found["composition_high"]) == pytest.approx((expected.low, expected.high))
  assert 0 < found["composition"] < 1


@pytest.mark.slow
def test_losses_are_of_any_stage_and_pictures_of_those_that_draw(place, tmp_path):
  workdir, prepared = begun(place, tmp_path / "w"), open_prepared(place / "data")
  both, drawn = Asked(every=5, metrics=("losses", "clip")), Asked(every=5, metrics=("clip",))
  say = lambda line: None  # noqa: E731
  assert prompt_metrics.hooks(None, "dvae", workdir, prepared, say) == ()
  assert prompt_metrics.hooks(drawn, "dvae", workdir, prepared, say) == ()
  (of_dvae,) = prompt_metrics.hooks(both, "dvae", workdir, prepared, say)
  told = of_dvae.fn(1, workdir.weights("dvae")[0])
  assert "prompts_held_out_loss" in told
  assert not [name for name in told if "clip" in name]
  assert np.isfinite(told["prompts_held_out_loss"])
