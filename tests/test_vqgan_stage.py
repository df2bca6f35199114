"""A VQGAN of another project as the first stage of a run: its codes are learnt, and it paints what is drawn."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vqgan_files

from dalle_jax import cli, config, convert_files, evaluate, run, sharding, step_shapes
from dalle_jax.convert import weights
from dalle_jax.data.captioned_scenes import Config as Captioned
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.codes import open_codes
from dalle_jax.data.images import Stage2Crop
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError
from dalle_jax.evaluation.report import Protocol
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import clip, dvae, image_tokenizer, transformer, vqgan
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.first_stage import FrozenVqgan
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant
from dalle_jax.training.optimizers import AdamW
from dalle_jax.workdir import Workdir

MODEL = vqgan_files.SMALL
WORDS = TokenizerConfig(vocab=320, length=96, spaces=False)
STREAM = transformer.Config(
  text_vocab=320, text=96, image_vocab=MODEL.vocab, grid=MODEL.grid, layers=1, heads=2, head_dim=4, last=None
)
PICTURES = Pictures(crop=Stage2Crop(size=MODEL.image))
SMALL_TOWER = {"layers": 1, "width": 8, "heads": 2}
CAPTIONED = replace(PICTURES, captions=True)


def stage(objective, examples, **options):
  options = {"steps": 2, "batch": 8, "optimizer": AdamW(lr=Constant(1e-3)), "show_every": 2} | options
  return Stage(objective=objective, examples=examples, **options)


def experiment(weights, data="data", examples=None, own=None, **first):
  first = {"from_": weights and str(weights), "frozen": True} | first
  stages = {
    "vqgan": stage(FrozenVqgan(model=MODEL), PICTURES, **first),
    "transformer": stage(TransformerNll(model=STREAM, dvae=own), examples or Codes()),
  }
  return Experiment(name="tiny", data=str(data), tokenizer=WORDS, stages=stages)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
  """Converted weights of random numbers, with what a training leaves beside them."""
  place = tmp_path_factory.mktemp("converted")
  extra = {"loss.discriminator.main.0.weight": np.zeros((4, 3, 4, 4), np.float32)}
  file = vqgan_files.write(place / "last.safetensors", **extra)
  found = convert_files.convert([file], place / "weights")
  assert found.name == "vqgan"
  assert found.ignored == tuple(extra)
  assert " 1 (loss.discriminator.main.0.weight ...)" in convert_files.as_text(found, place)
  return place / "weights"


@pytest.fixture(scope="module")
def trained(converted, tmp_path_factory):
  """A run of two steps on the codes of those weights."""
  place = tmp_path_factory.mktemp("trained")
  prepare(Scenes(Captioned(image=16, train=24, valid=10, test=8, test_pairs=4)), place / "data")
  return run.run(experiment(converted, place / "data"), place / "run")


def test_its_stage_goes_to_json_and_back_and_is_told_from_a_dvaes():
  whole = experiment("somewhere", examples=CAPTIONED, own=MODEL)
  assert config.from_dict(Experiment, json.loads(json.dumps(config.to_dict(whole)))) == whole
  told = config.to_dict(whole.stage("transformer").objective)
  assert told["dvae"]["kind"] == "VqganConfig"
  for own in (MODEL, dvae.Config(), None):
    objective = replace(whole.stage("transformer").objective, dvae=own)
    assert config.from_dict(TransformerNll, config.to_dict(objective)) == objective


@pytest.mark.parametrize("examples", [Codes(), CAPTIONED])
def test_a_transformer_of_its_codes_traces(examples):
  whole = experiment("somewhere", examples=examples, own=None if isinstance(examples, Codes) else MODEL)
  step_shapes.check(whole, "transformer", sharding.make_mesh(sharding.MeshShape()))


def test_a_vqgan_that_is_not_frozen_is_told_how_to_be():
  with pytest.raises(UserError, match=r"stage vqgan is a VQGAN, which is used here and not trained: name converted"):
    experiment(None, frozen=False)


def test_its_codes_are_not_drawn():
  with pytest.raises(UserError, match="stage transformer wants codes drawn, and FrozenVqgan gives them no probab"):
    experiment("somewhere", examples=Codes(sampled=True))


def test_nor_are_they_where_they_are_encoded_by_hand(tmp_path, capsys):
  prepare(Scenes(Captioned(train=2, valid=1, test=1, test_pairs=1)), tmp_path / "data")
  Workdir.claim(tmp_path / "run", experiment("somewhere", data=tmp_path / "data"))
  asked = [
    "data",
    "encode",
    tmp_path / "data",
    "--dvae",
    tmp_path / "run",
    "--out",
    tmp_path / "out",
    "--sampled",
    "True",
  ]
  assert cli.main([str(word) for word in asked]) == 2
  said = capsys.readouterr().err
  assert said.count("\n") == 1
  assert f"encoding by {tmp_path / 'run'} wants codes drawn, and FrozenVqgan gives them no probabilities" in said
  assert not (tmp_path / "out").exists()


def test_one_that_only_decodes_is_no_first_stage():
  with pytest.raises(UserError, match="only decode, and a first stage makes codes"):
    FrozenVqgan(model=replace(MODEL, encoder=False))


def test_its_grid_and_vocabulary_must_be_the_transformers():
  whole = experiment("somewhere")
  wrong = replace(whole.stage("transformer"), objective=TransformerNll(model=replace(STREAM, image_vocab=33)))
  with pytest.raises(UserError, match=r"models 8x8 image tokens of 33, the dVAE makes 8x8 of 32"):
    replace(whole, stages=whole.stages | {"transformer": wrong})


def test_weights_of_other_sizes_are_named(converted, tmp_path):
  whole = experiment(converted)
  other = replace(whole.stage("vqgan"), objective=FrozenVqgan(model=replace(MODEL, low=0.0)))
  prepare(Scenes(Captioned(image=16, train=10, valid=4, test=4, test_pairs=2)), tmp_path / "data")
  with pytest.raises(UserError, match=r"of another model \(low: -1.0 -> 0.0\)"):
    run.run(replace(whole, data=str(tmp_path / "data"), stages=whole.stages | {"vqgan": other}), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_transformer_is_trained_on_its_codes(trained, converted):
  read = weights.load(converted)
  assert replace(read.config, image=MODEL.image) == MODEL
  found = open_codes(trained.codes)
  assert found.stamp.dvae == read.digest
  source, pictures = found.source("train"), open_prepared(trained.experiment().data).source("train")
  images = np.stack([pictures[i]["image"] for i in range(8)])
  codes = np.asarray(vqgan.encode_images(read.params, MODEL, jnp.asarray(images)))
  assert len(np.unique(codes)) > 4
  np.testing.assert_array_equal(np.stack([source[i]["codes"].reshape(8, 8) for i in range(8)]), codes)


@pytest.mark.slow
def test_what_is_drawn_is_painted_by_its_decoder(trained, converted):
  read, drawer = weights.load(converted), evaluate.drawer(trained, 8)
  text = trained.tokenizer().ids("a red square")[None]
  (drawn,) = drawer.draw(text, num=4, seed=0)
  assert drawn.codes_NP.shape == (4, 64)
  codes = jnp.asarray(drawn.codes_NP.reshape(4, 8, 8))
  np.testing.assert_array_equal(drawn.images_KHWC, vqgan.decode_images(read.params, MODEL, codes))
  assert np.std(drawn.images_KHWC) > 10
  assert drawer.weights["vqgan"] == read.digest


@pytest.mark.slow
def test_the_run_is_measured_without_a_loss_of_the_vqgan(trained, converted):
  report = evaluate.evaluate(trained, Protocol(captions=2, samples=1, batch=8))
  assert set(report.losses) == {"transformer"}
  assert report.reconstruction.pictures == 8
  assert report.reconstruction.used > 1


def test_clip_learns_from_pictures_that_it_painted(converted):
  towers = {f"{kind}_{name}": size for kind in ("vision", "text") for name, size in SMALL_TOWER.items()}
  model = clip.Config(image=16, patch=8, embed=8, text_vocab=320, text=96, **towers)
  objective = ClipContrastive(model=model, dvae=MODEL)
  read, codes = weights.load(converted), np.random.default_rng(0).integers(0, MODEL.vocab, (2, 64))
  batch = {"codes": jnp.asarray(codes)}
  found = objective._images({"dvae": read.params}, batch)
  wanted = vqgan.decode_images(read.params, MODEL, jnp.asarray(codes.reshape(2, 8, 8)))
  np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("cfg", [MODEL, dvae.Config(image=8, vocab=7, hidden=8, groups=2, blocks=1, code_dim=4)])
def test_the_image_tokenizer_is_the_network_that_its_sizes_are_of(cfg):
  model = {vqgan.VqganConfig: vqgan, dvae.Config: dvae}[type(cfg)]
  images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, cfg.image, cfg.image, 3), np.uint8))
  rng = np.random.default_rng(1)
  if model is vqgan:
    shapes = jax.eval_shape(lambda: vqgan.init(jax.random.key(0), cfg))
  else:
    shapes = jax.eval_shape(lambda: dvae.Dvae(cfg).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"])
  params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), sharding.unbox(shapes))
  codes = image_tokenizer.encode_images(params, cfg, images)
  np.testing.assert_array_equal(codes, model.encode_images(params, cfg, images))
  np.testing.assert_array_equal(
    image_tokenizer.decode_images(params, cfg, codes), model.decode_images(params, cfg, codes)
  )
