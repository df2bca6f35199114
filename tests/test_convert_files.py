"""A run on converted weights: from files like OpenAI's dVAE to what a transformer draws that learnt its codes."""

import json
import os
import subprocess
import sys

import openai_files
import pytest

from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.codes import open_codes
from dalle_jax.data.prepare import prepare
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.training.checkpoint import Checkpoints

EXPERIMENT = """
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import dvae, transformer
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant, Cosine
from dalle_jax.training.optimizers import AdamW

VAE = dvae.Config(image=16, vocab=32, hidden=8, groups=4, blocks=1, code_dim=4)
WORDS = TokenizerConfig(vocab=320, length=96, spaces=False)
STREAM = transformer.Config(
  text_vocab=320, text=96, image_vocab=32, grid=2, layers=2, heads=2, head_dim=4, mix=("row", "column")
)


def stage(objective, examples):
  optimizer = AdamW(lr=Cosine(start=3e-3, end=1e-4, steps=2, warmup=1))
  often = {"save_every": 1, "show_every": 2}
  return Stage(steps=2, batch=8, objective=objective, optimizer=optimizer, examples=examples, **often)


def experiment():
  elbo = DvaeElbo(model=VAE, kl=Constant(0.0), temperature=Constant(1.0))
  stages = {
    "dvae": stage(elbo, Pictures(crop=Stage1Crop(size=16))),
    "transformer": stage(TransformerNll(model=STREAM), Codes()),
  }
  return Experiment(name="tiny", data="data", tokenizer=WORDS, stages=stages)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A directory with the experiment, 60 captioned scenes and converted weights, in which all commands are typed."""
  directory = tmp_path_factory.mktemp("place")
  (directory / "tiny.py").write_text(EXPERIMENT)
  prepare(Scenes(Config(image=16, train=60, valid=10, test=9, test_pairs=6)), directory / "data")
  openai_files.write(directory)
  dalle(directory, "convert", "encoder.pkl", "decoder.pkl", "--out", "theirs")
  return directory


def dalle(place, *argv, code=0):
  environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-m", "dalle_jax", *map(str, argv)]
  done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
  assert done.returncode == code, done.stderr
  return done.stdout, done.stderr


def train(workdir, *flags):
  return ("train", "tiny.py", "--workdir", workdir, *flags)


FROZEN = ("--stages.dvae.from", "theirs", "--stages.dvae.frozen", "True")


@pytest.fixture(scope="module")
def trained(place):
  dalle(place, *train("run", *FROZEN))
  return place / "run"


def digest(place):
  return json.loads((place / "theirs/config.json").read_text())["digest"]


@pytest.mark.slow
def test_a_transformer_is_trained_on_the_codes_of_converted_weights(place, trained):
  assert not (trained / "dvae").exists()
  assert Checkpoints(trained / "transformer/checkpoints").good_steps()[-1] == 2
  assert open_codes(trained / "codes").stamp.dvae == digest(place)
  source = open_codes(trained / "codes").source("train")
  assert len({tuple(example["codes"].ravel().tolist()) for example in source}) > 1


@pytest.mark.slow
def test_it_draws_and_is_measured(place, trained):
  out, _ = dalle(place, "sample", "run", "a red square", "--num", 2, "--keep", 2)
  assert "samples" in out
  assert len(list((trained / "samples").rglob("*.png"))) >= 2
  out, _ = dalle(place, "eval", "run", "--captions", 2, "--samples", 1)
  told = json.loads((trained / "evaluation.json").read_text())
  assert "dvae" in json.dumps(told)
  assert "transformer" in out


@pytest.mark.slow
def test_a_dvae_begins_with_them(place):
  """The first update of the warm-up has a rate of 0: after it the weights are still those it began with."""
  dalle(place, *train("begun", "--stages.dvae.from", "theirs", "--stages.dvae.steps", 1, "--only", "dvae"))
  assert Checkpoints(place / "begun/dvae/checkpoints").digest() == digest(place)


@pytest.mark.slow
def test_weights_that_do_not_fit_are_told_before_anything_is_written(place):
  other = ("--stages.dvae.objective.model.vocab", 64, "--stages.transformer.objective.model.image-vocab", 64)
  _, err = dalle(place, *train("wide", *FROZEN, *other, "--only", "transformer"), code=2)
  (line,) = [line for line in err.splitlines() if line.startswith("dalle: ")]
  assert "the weights in theirs are of another model: params/decoder/input/kernel is float32[1,1,32,4], wanted" in line
  assert not (place / "wide").exists()


@pytest.mark.slow
def test_exported_weights_begin_another_run_bit_for_bit(place, trained):
  dalle(place, "checkpoint", "export", "run/transformer", "--out", "exported")
  begun = ("--stages.transformer.from", "exported", "--stages.transformer.steps", 1)
  dalle(place, *train("again", *FROZEN, *begun))
  ours, theirs = (Checkpoints(place / name / "transformer/checkpoints").digest() for name in ("again", "run"))
  assert ours == theirs
