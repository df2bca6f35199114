"""`dalle probe WORKDIR raven` by its own function and command: what is written, and what is told where it can't be."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest

from dalle_jax import golden, raven, sharding
from dalle_jax.commands import raven as command
from dalle_jax.data import captions
from dalle_jax.data.prepare import prepare
from dalle_jax.data.raven import items as items_lib
from dalle_jax.data.raven import source
from dalle_jax.errors import UserError
from dalle_jax.evaluation.raven import table
from dalle_jax.training.checkpoint import Checkpoints
from dalle_jax.training.step import init_state
from dalle_jax.workdir import Workdir

replace = dataclasses.replace
ROOT = Path(__file__).parents[1] / "experiments"


def small(data):
  """experiments/raven.py in small."""
  whole = golden.resolved("raven", ROOT)
  vae, prior = whole.stages["dvae"], whole.stages["transformer"]
  codes = replace(vae.objective.model, vocab=16, hidden=4, groups=4, code_dim=4)  # 6x6 codes
  stream = replace(prior.objective.model, image_vocab=16, grid=6, layers=2, heads=1, head_dim=4)
  stages = {
    "dvae": replace(vae, steps=2, batch=8, objective=replace(vae.objective, model=codes, patches_from=6)),
    "transformer": replace(prior, steps=2, batch=8, objective=replace(prior.objective, model=stream)),
  }
  return replace(whole, data=str(data), stages=stages)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A run that has just begun on a few matrices: a tokenizer, and weights that nothing was learnt by."""
  place = tmp_path_factory.mktemp("raven")
  prepare(source.Matrices(source.Config(grid=6, train=12, valid=4)), place / "data")
  whole = small(place / "data")
  workdir = Workdir.claim(place / "run", whole)
  workdir.keep_tokenizer(captions.train([items_lib.CAPTION], whole.tokenizer))
  mesh = sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1])
  for name, stage in whole.stages.items():
    state = init_state(stage.objective, stage.optimizer, seed=0, mesh=mesh, rules=sharding.Rules())
    checkpoints = Checkpoints(workdir.path / name / "checkpoints")
    checkpoints.save(stage.steps, state, {})
    checkpoints.close()
  return workdir


@pytest.mark.slow
def test_the_command_prints_the_tables_and_writes_them_with_a_page(workdir, capsys):
  assert command.run([str(workdir.path), "--items", "2", "--batch", "5"]) == 0
  printed = capsys.readouterr()
  out = workdir.path / "raven"
  assert printed.out.splitlines()[-1] == str(out / "index.html")
  assert printed.err == "completing: 16\n"
  found = json.loads((out / "raven.json").read_text())
  assert [(row["name"], row["inverted"], row["right"]["of"]) for row in found["by_set"]] == [
    (letter, inverted, 2) for letter in "BCDE" for inverted in (False, True)
  ]
  assert {tuple(row["trained"]) for row in found["by_kind"]} == {
    (),
    ("identity",),
    ("addition",),
    ("permutation",),
  }
  assert found["codes of a panel"] == "2x2"
  assert (out / "table.txt").read_text() in printed.out
  assert "never trained on" in (out / "index.html").read_text()
  assert len(list((out / "pictures").iterdir())) == 3 * 16


@pytest.mark.slow
def test_what_is_found_does_not_depend_on_the_batch(workdir, tmp_path):
  found = [raven.probe(workdir, items=1, batch=batch, out=tmp_path / "out").outcomes for batch in (8, 3)]
  assert table.to_json(found[0], None) == table.to_json(found[1], None)


@pytest.mark.slow
def test_the_command_takes_a_mesh(workdir, tmp_path):
  raven.probe(workdir, items=1, batch=5, out=tmp_path / "one")
  mesh = ["--mesh.data", "8"]
  argv = [str(workdir.path), "--items", "1", "--batch", "5", "--out", str(tmp_path / "eight")]
  assert command.run([*argv, *mesh]) == 0
  one, eight = ((tmp_path / name / "raven.json").read_text() for name in ("one", "eight"))
  assert one == eight
  for file in (tmp_path / "one/pictures").iterdir():
    assert file.read_bytes() == (tmp_path / "eight/pictures" / file.name).read_bytes()
  with pytest.raises(UserError, match="got a mesh of data=3, fsdp=1, model=1 for 8 devices"):
    command.run([*argv, "--mesh.data", "3"])


@pytest.mark.slow
def test_a_stage_that_is_not_trained_to_its_end_is_told(workdir, tmp_path, monkeypatch):
  whole = workdir.experiment()
  longer = replace(whole.stages["transformer"], steps=9)
  monkeypatch.setattr(Workdir, "experiment", lambda self: replace(whole, stages=whole.stages | {"transformer": longer}))
  told = []
  raven.probe(workdir, items=1, out=tmp_path / "out", say=told.append)
  assert told == ["stage transformer is at step 2 of 9: its training has not ended"]


@pytest.mark.slow
def test_rows_by_training_are_there_where_the_data_is(workdir, tmp_path, monkeypatch):
  told = []
  rows = raven.probe(workdir, items=1, out=tmp_path / "out", say=told.append).by_training
  assert [row.name for row in rows] == ["trained kinds"] * 2 + ["other kinds"] * 2
  assert told == []
  monkeypatch.setattr(Workdir, "experiment", lambda self: small(tmp_path / "gone"))
  found = raven.probe(workdir, items=1, out=tmp_path / "out", say=told.append)
  assert found.by_training == []
  assert found.by_set[0].trained is None
  assert len(told) == 1
  assert told[0].startswith(f"the run's data, {tmp_path / 'gone'}, can't be read here")


def claimed(path, **changes):
  """A workdir of which nothing is trained."""
  return Workdir.claim(path, replace(small("data"), **changes))


@pytest.mark.slow
def test_a_run_without_a_transformer_is_one_line_and_leaves_nothing(workdir, tmp_path):
  only = replace(small("data"), stages={"dvae": small("data").stages["dvae"]})
  path = Workdir.claim(tmp_path / "run", only).path
  with pytest.raises(UserError, match=r"has no weights of any stage yet: run `dalle train` on it first"):
    raven.probe(Workdir.open(path), out=path / "raven")
  (path / "dvae").symlink_to(workdir.path / "dvae")
  with pytest.raises(UserError, match=r"cannot draw yet: both a dVAE and a transformer must be trained"):
    raven.probe(Workdir.open(path), out=path / "raven")
  assert not (path / "raven").exists()


def test_a_grid_without_room_for_panels_is_one_line(tmp_path):
  stages = small("data").stages
  vae, prior = stages["dvae"], stages["transformer"]
  vae = replace(vae, objective=replace(vae.objective, model=replace(vae.objective.model, groups=5)))
  prior = replace(prior, objective=replace(prior.objective, model=replace(prior.objective.model, grid=3)))
  with pytest.raises(UserError, match=r"48 pixels and 3x3 codes don't divide into panels of a matrix"):
    raven.probe(claimed(tmp_path / "run", stages={"dvae": vae, "transformer": prior}), out=tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_a_run_without_a_dvae_is_one_line(tmp_path):
  with pytest.raises(UserError, match="has no dVAE, whose codes a matrix is given in"):
    raven.probe(claimed(tmp_path / "run", stages={}), out=tmp_path / "out")


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--items", "2"], "no workdir given, got --items first; wanted: dalle probe WORKDIR raven"),
    (["nowhere", "--items", "0"], "got --items 0, wanted at least 1"),
    (["nowhere", "--batch", "0"], "got --batch 0, wanted at least 1"),
    (["nowhere", "--items", "x"], "got --items x, wanted a whole number"),
    (["nowhere", "--itmes", "3"], "Perhaps you meant: --items"),
    (["nowhere"], "nowhere is not a workdir: it holds no experiment.json"),
  ],
)
def test_what_a_person_gets_wrong_is_one_line(tmp_path, monkeypatch, argv, says):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=says) as info:
    command.run(argv)
  assert "\n" not in str(info.value)
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
  ("items", "says"), [(0, "got 0 items of each set"), (5000, "matrices of identity to draw|only")]
)
def test_items_that_there_are_not_are_one_line(workdir, tmp_path, items, says):
  with pytest.raises(UserError, match=says):
    raven.probe(workdir, items=items, out=tmp_path / "out")
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_file_in_place_of_the_folder_is_one_line(workdir, tmp_path):
  (tmp_path / "out").write_text("")
  with pytest.raises(UserError, match="it is a file; take another --out"):
    raven.probe(workdir, out=tmp_path / "out")


def test_help_says_what_to_type(capsys):
  assert command.run(["--help"]) == 0
  assert capsys.readouterr().out.startswith("usage: dalle probe WORKDIR raven")


def test_the_experiment_s_picture_and_grid_are_those_its_data_is_drawn_for():
  model = golden.resolved("raven", ROOT).stage("dvae").objective.model
  assert (model.image, model.grid) == (source.Config().image, source.Config().grid)
