"""OpenAI's published dVAE, its own modules with random weights, beside ours with the same weights converted."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import official
import official_dvae
import pytest
import random_weights
from official_dvae import BLOCKS, CODE_DIM, HIDDEN, VOCAB, theirs

from dalle_jax import cli
from dalle_jax.convert import weights
from dalle_jax.models import dvae

pytestmark = pytest.mark.parity

TOLERANCE = 1e-4
SIDE = 64


@pytest.fixture(scope="module")
def modules():
  return official_dvae.modules()


@pytest.fixture(scope="module", params=["zip", "legacy", "state dicts"])
def converted(request, modules, tmp_path_factory):
  """The directory that the command wrote of the files that torch wrote, of each of its formats."""
  import torch

  place = tmp_path_factory.mktemp("openai")
  for name, module in modules.items():
    what = module.state_dict() if request.param == "state dicts" else module
    torch.save(what, place / f"{name}.pkl", _use_new_zipfile_serialization=request.param != "legacy")
  code = cli.main(["convert", f"{place}/encoder.pkl", f"{place}/decoder.pkl", "--out", f"{place}/dvae"])
  assert code == 0
  return place / "dvae"


def pictures():
  """Squares of the brightest colours, so that many codes come up."""
  small_BhwC = 255 * np.random.default_rng(3).integers(0, 2, (4, SIDE // 4, SIDE // 4, 3), np.uint8)
  return small_BhwC.repeat(4, axis=1).repeat(4, axis=2)


def mapped(images_BHWC):
  import torch

  utils = official.load("dall_e.utils")
  return utils.map_pixels(torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float() / 255).permute(0, 2, 3, 1).numpy()


def test_the_sizes_are_those_of_the_modules(converted):
  cfg = weights.load(converted).config
  assert cfg == dvae.Config(image=256, vocab=VOCAB, hidden=HIDDEN, blocks=BLOCKS, code_dim=CODE_DIM)
  told = json.loads((converted / "config.json").read_text())
  assert [source["file"] for source in told["sources"]] == ["encoder.pkl", "decoder.pkl"]


def test_logits_tokens_and_statistics_are_theirs(converted, modules):
  found, images_BHWC = weights.load(converted), pictures()
  model, variables = dvae.Dvae(found.config), {"params": jax.tree.map(jnp.asarray, found.params)}
  x_BHWC = np.asarray(dvae.map_pixels(jnp.asarray(images_BHWC)))
  np.testing.assert_allclose(x_BHWC, mapped(images_BHWC), rtol=0, atol=1e-6)

  logits_BhwV = np.asarray(model.apply(variables, jnp.asarray(x_BHWC), method="encode"))
  wanted_BhwV = theirs(modules["encoder"], x_BHWC)
  assert random_weights.error(logits_BhwV, wanted_BhwV) <= TOLERANCE
  codes_Bhw, wanted_Bhw = logits_BhwV.argmax(-1), wanted_BhwV.argmax(-1)
  assert len(np.unique(wanted_Bhw)) > 10
  assert_tokens_equal(codes_Bhw, wanted_Bhw, wanted_BhwV)
  np.testing.assert_array_equal(
    dvae.encode_images(variables["params"], found.config, jnp.asarray(images_BHWC)), codes_Bhw
  )

  one_hot_BhwV = np.eye(VOCAB, dtype=np.float32)[wanted_Bhw]
  stats_BHWS = model.apply(variables, jnp.asarray(wanted_Bhw), method="decode_codes")
  wanted_BHWS = theirs(modules["decoder"], one_hot_BhwV)
  assert random_weights.error(stats_BHWS, wanted_BHWS) <= TOLERANCE
  mixed_BhwV = jax.nn.softmax(jnp.asarray(wanted_BhwV) / 32)
  mixed_BHWS = theirs(modules["decoder"], np.asarray(mixed_BhwV))
  assert random_weights.error(mixed_BHWS, wanted_BHWS) > 10 * TOLERANCE
  assert random_weights.error(model.apply(variables, mixed_BhwV, method="decode"), mixed_BHWS) <= TOLERANCE


def assert_tokens_equal(ours_Bhw, theirs_Bhw, logits_BhwV):
  """Equal in 99.9 % of all places, and in the others the two logits are nearer than the tolerance."""
  apart = np.argwhere(ours_Bhw != theirs_Bhw)
  assert len(apart) <= 0.001 * ours_Bhw.size
  for place in map(tuple, apart):
    gap = logits_BhwV[place][theirs_Bhw[place]] - logits_BhwV[place][ours_Bhw[place]]
    assert gap <= 2 * TOLERANCE * np.abs(logits_BhwV).max()


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_every_tensor_matters(modules, name):
  rng = np.random.default_rng(5)
  if name == "encoder":
    x_BHWC = rng.uniform(0.1, 0.9, (2, 16, 16, 3)).astype(np.float32)
  else:
    x_BHWC = np.eye(VOCAB, dtype=np.float32)[rng.integers(0, VOCAB, (2, 2, 2))]
  module = modules[name]
  assert random_weights.idle(module.state_dict(), lambda: theirs(module, x_BHWC), TOLERANCE) == []


def test_one_half_alone_is_told(modules, tmp_path, capsys):
  import torch

  torch.save(modules["encoder"], tmp_path / "encoder.pkl")
  assert cli.main(["convert", f"{tmp_path}/encoder.pkl", "--out", f"{tmp_path}/dvae"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "its decoder is there not" in line
  assert "name encoder.pkl and decoder.pkl" in line
  assert not (tmp_path / "dvae").exists()
