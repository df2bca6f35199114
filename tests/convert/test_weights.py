"""Converted weights come back from their directory as they were, or it is told that they are not what was written."""

import json
import shutil

import numpy as np
import openai_files
import pytest

from dalle_jax.convert import files, openai_dvae, weights
from dalle_jax.errors import UserError
from dalle_jax.models import dvae
from dalle_jax.training import checkpoint


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  """Weights like OpenAI's dVAE, with a vocabulary that came with them."""
  place = tmp_path_factory.mktemp("files")
  sources = openai_files.write(place)
  (place / "vocab.json").write_text("{}")
  cfg, params = openai_dvae.read(files.merged(sources))
  (place / "out").mkdir()
  weights.save(place / "out", "openai_dvae", cfg, params, sources=sources, files=[place / "vocab.json"])
  return place / "out"


@pytest.fixture
def copy(directory, tmp_path):
  return shutil.copytree(directory, tmp_path / "copy")


def test_what_was_saved_comes_back_bit_for_bit(directory):
  found = weights.load(directory)
  cfg, params = openai_dvae.read(files.merged([directory.parent / f"{half}.pkl" for half in ("encoder", "decoder")]))
  assert found.kind == "openai_dvae"
  assert found.config == cfg == dvae.Config(vocab=32, hidden=8, code_dim=4, blocks=1)
  ours, theirs = weights.flat(found.params), weights.flat(params)
  assert ours.keys() == theirs.keys()
  for name, array in theirs.items():
    np.testing.assert_array_equal(ours[name], array)
  assert found.files == {"vocab.json": directory / "vocab.json"}
  told = json.loads((directory / "config.json").read_text())
  assert [source["file"] for source in told["sources"]] == ["encoder.pkl", "decoder.pkl"]
  assert len({source["sha256"] for source in told["sources"]}) == 2


def test_the_digest_is_that_of_a_checkpoint_with_these_weights(directory):
  found = weights.load(directory)
  by_path = {name.replace(".", "/"): array for name, array in weights.flat(found.params).items()}
  assert found.digest == checkpoint.digest(by_path)


def test_a_scalar_stays_one(tmp_path):
  params = {"scale": np.float32(3), "inside": {"table": np.ones((2, 3), np.float32).T}}
  weights.save(tmp_path, "openai_dvae", dvae.Config(), params, sources=[])
  found = weights.load(tmp_path).params
  assert found["scale"].shape == ()
  np.testing.assert_array_equal(found["inside"]["table"], params["inside"]["table"])


def spoil_config(copy, **changes):
  told = json.loads((copy / "config.json").read_text())
  (copy / "config.json").write_text(json.dumps(told | changes))


def flip(file):
  data = bytearray(file.read_bytes())
  data[-5] ^= 1
  file.write_bytes(data)


@pytest.mark.parametrize(
  ("spoil", "words"),
  [
    (lambda copy: flip(copy / "weights.safetensors"), "weights.safetensors is not as it was written"),
    (lambda copy: (copy / "weights.safetensors").write_bytes(b"short"), "is damaged or cut off"),
    (lambda copy: (copy / "weights.safetensors").unlink(), "holds no converted weights"),
    (lambda copy: (copy / "config.json").write_text("{"), "config.json is damaged"),
    (lambda copy: (copy / "config.json").write_text("{}"), "config.json is damaged"),
    (lambda copy: (copy / "config.json").write_text("[]"), "config.json is damaged"),
    (lambda copy: spoil_config(copy, format=99), "is of format 99, this version reads 1"),
    (lambda copy: spoil_config(copy, kind="other"), "no kind of weights 'other'; there are openai_dvae"),
    (lambda copy: spoil_config(copy, config={"hiden": 1}), "has the field 'hiden'"),
    (lambda copy: spoil_config(copy, config=7), "config.json is damaged"),
    (lambda copy: (copy / "vocab.json").write_text("[]"), "vocab.json is not there or not as it was written"),
    (lambda copy: spoil_config(copy, files={"../vocab.json": ""}), "is not there or not as it was written"),
  ],
)
def test_what_is_not_as_it_was_written_is_told(copy, spoil, words):
  spoil(copy)
  with pytest.raises(UserError, match=words):
    weights.load(copy)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
  with pytest.raises(UserError, match=r"the parameter a\.b holds NaN or infinity"):
    weights.save(tmp_path, "openai_dvae", dvae.Config(), {"a": {"b": np.float32([1, np.inf])}}, sources=[])
  assert not list(tmp_path.iterdir())
