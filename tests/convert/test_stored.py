"""A stage takes weights that were converted or exported: bit for bit, or told in what they are of another model."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import openai_files
import pytest
import tiny_run

from dalle_jax import checkpoint_files, cli, config, places, sharding
from dalle_jax.convert import stored
from dalle_jax.errors import UserError
from dalle_jax.experiment import Experiment
from dalle_jax.workdir import Workdir, laid_out, taken

TEXTS = ["a red square", "a blue circle", "two green triangles"] * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir whose three stages have random weights."""
  return tiny_run.workdir(tmp_path_factory.mktemp("run") / "w", TEXTS)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
  """Its stages' weights, each in a directory as the command writes it."""
  place = tmp_path_factory.mktemp("exported")
  for name in run.experiment().stages:
    assert cli.main(["checkpoint", "export", f"{run.path}/{name}", "--out", f"{place / name}"]) == 0
  return place


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
  """Weights like OpenAI's dVAE, as the command writes them."""
  place = tmp_path_factory.mktemp("converted")
  paths = openai_files.write(place)
  assert cli.main(["convert", *map(str, paths), "--out", str(place / "dvae")]) == 0
  return place / "dvae"


def having(tmp_path, changes):
  """A workdir of the tiny run's experiment with fields of its stages changed."""
  whole = tiny_run.experiment()
  stages = {name: replace(stage, **changes.get(name, {})) for name, stage in whole.stages.items()}
  return Workdir.claim(tmp_path / "w", replace(whole, stages=stages))


def assert_same(ours, theirs):
  ours, theirs = jax.device_get((ours, theirs))
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
    assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())


@pytest.mark.parametrize("name", ["dvae", "transformer", "clip"])
def test_exported_weights_come_back_bit_for_bit_with_their_digest(run, exported, tmp_path, name):
  workdir = having(tmp_path, {name: {"from_": str(exported / name), "frozen": True}})
  params, digest = workdir.weights(name)
  theirs, their_digest = run.weights(name)
  assert_same(params, theirs)
  assert digest == their_digest


def test_they_come_back_split_over_devices_too(run, exported, tmp_path):
  workdir = having(tmp_path, {"transformer": {"from_": str(exported / "transformer"), "frozen": True}})
  mesh = sharding.make_mesh(sharding.MeshShape(data=2, fsdp=2, model=2), jax.devices()[:8])
  like = laid_out(workdir.experiment().stage("transformer"), mesh, sharding.Rules())
  params, _ = workdir.weights("transformer", like)
  assert_same(params, run.weights("transformer")[0])
  assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(params))


def test_what_is_given_as_a_start_is_a_copy(exported):
  """A step may write where its arguments lie: what was read must not be there."""
  own = tiny_run.experiment().stage("dvae")
  stage = replace(own, from_=str(exported / "dvae"))
  shapes = sharding.unbox(jax.eval_shape(own.objective.init, jax.random.key(0)))
  like = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype)), shapes)
  first, again = (taken("dvae", stage, like)[0] for _ in range(2))
  jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)(first)
  assert_same(again, taken("dvae", stage, like)[0])


def test_the_json_beside_an_export_is_enough_to_load_it(run, exported):
  told = json.loads((exported / "dvae/experiment.json").read_text())
  objective = config.from_dict(Experiment, told).stage("dvae").objective
  like = sharding.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
  assert_same(stored.read(exported / "dvae", "dvae").laid(like), run.weights("dvae")[0])


def test_another_shape_is_named_with_both(exported, tmp_path):
  whole = tiny_run.experiment().stage("dvae")
  wide = replace(whole.objective, model=replace(whole.objective.model, hidden=16))
  stage = replace(whole, objective=wide, from_=str(exported / "dvae"))
  with pytest.raises(UserError) as info:
    taken("dvae", stage, jax.eval_shape(lambda: sharding.unbox(wide.init(jax.random.key(0)))))
  assert f"the weights in {exported / 'dvae'} are of another model: " in str(info.value)
  assert "params/decoder/group_1/block_1/conv_1/bias is float32[8], wanted float32[16]; " in str(info.value)
  assert "more)" in str(info.value)


def test_a_frozen_model_that_computes_something_else_is_named(exported, tmp_path):
  whole = tiny_run.experiment().stage("transformer")
  other = replace(whole.objective.model, mix=("column", "row"))
  workdir = having(
    tmp_path,
    {
      "transformer": {
        "objective": replace(whole.objective, model=other),
        "from_": str(exported / "transformer"),
        "frozen": True,
      }
    },
  )
  with pytest.raises(UserError, match=r"of another model \(mix: \['row', 'column'\] -> \['column', 'row'\]\)"):
    workdir.weights("transformer")


def test_a_field_that_came_after_the_weights_were_written_is_its_default(exported):
  model = tiny_run.experiment().stage("dvae").objective.model
  found = stored.read(exported / "dvae", "dvae")
  before = replace(found, model={name: value for name, value in found.model.items() if name != "code_kernel"})
  before.check_model(model)
  with pytest.raises(UserError, match=r"of another model \(code_kernel: 1 -> 3\)"):
    before.check_model(replace(model, code_kernel=3))


def test_how_a_frozen_model_runs_may_differ(run, exported, tmp_path):
  whole = tiny_run.experiment().stage("transformer")
  own = replace(whole.objective, model=replace(whole.objective.model, dtype="bfloat16", remat="full"))
  workdir = having(
    tmp_path, {"transformer": {"objective": own, "from_": str(exported / "transformer"), "frozen": True}}
  )
  assert_same(workdir.weights("transformer")[0], run.weights("transformer")[0])


def test_a_frozen_stage_wants_the_tokenizer_it_was_trained_with(run, exported, tmp_path):
  workdir = having(tmp_path, {"transformer": {"from_": str(exported / "transformer"), "frozen": True}})
  workdir.keep_tokenizer(run.tokenizer_file.read_bytes())
  workdir.check_tokenizer("transformer")
  with pytest.raises(UserError, match=r"was trained with the tokenizer .* put back .*transformer/tokenizer.model"):
    workdir.check_tokenizer("transformer", b"another")


def spoil(place, name, change):
  file = place / name
  data = bytearray(file.read_bytes())
  change(data)
  file.write_bytes(data)


@pytest.mark.parametrize(
  ("name", "change", "words"),
  [
    ("dvae.safetensors", lambda data: data.__setitem__(-1, data[-1] ^ 1), "is not as it was written"),
    ("dvae.safetensors", lambda data: data.__delitem__(slice(-9, None)), "is damaged or not there: export it again"),
    ("experiment.json", lambda data: data.clear(), "is damaged or not there: export it again"),
  ],
)
def test_a_damaged_export_is_told(exported, tmp_path, name, change, words):
  place = shutil.copytree(exported / "dvae", tmp_path / "dvae")
  spoil(place, name, change)
  with pytest.raises(UserError, match=words):
    stored.read(place, "dvae")


def test_an_export_of_the_weights_themselves_is_taken_too(run, tmp_path):
  out = checkpoint_files.export(checkpoint_files.one(str(run.path), "dvae"), tmp_path / "out", ema=False)
  assert stored.read(out.parent, "dvae").digest == run.weights("dvae")[1]


def test_weights_in_a_bucket_are_to_be_copied_here(converted, bucket_environment):
  place = places.at("gs://bucket/converted")
  for file in converted.iterdir():
    places.upload(file, place / file.name)
  assert stored.is_at("gs://bucket/converted", "dvae")
  with pytest.raises(UserError, match="are read from this machine's disk: copy them here"):
    stored.read("gs://bucket/converted", "dvae")


def test_converted_weights_stand_in_for_a_stage(converted, tmp_path):
  whole = tiny_run.experiment().stage("dvae")
  model = replace(whole.objective.model, groups=4, image=16)
  objective = replace(whole.objective, model=model)
  stage = replace(whole, objective=objective, from_=str(converted), frozen=True)
  like = sharding.unbox(jax.eval_shape(objective.init, jax.random.key(0)))
  params, digest = taken("dvae", stage, like)
  assert digest == json.loads((converted / "config.json").read_text())["digest"]
  w_OIkk = openai_files.arrays("encoder")["blocks.input.w"]
  np.testing.assert_array_equal(params["encoder"]["input"]["kernel"], w_OIkk.transpose(2, 3, 1, 0))
  other = replace(stage, objective=replace(objective, model=replace(model, vocab=16)))
  with pytest.raises(
    UserError, match=r"params/decoder/input/kernel is float32\[1,1,32,4\], wanted float32\[1,1,16,4\]"
  ):
    taken("dvae", other, sharding.unbox(jax.eval_shape(other.objective.init, jax.random.key(0))))
