"""A workdir of a tiny image-first transformer, its weights drawn at random, and captioned scenes for it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax import golden, sharding
from dalle_jax.data import captions
from dalle_jax.data.captioned_scenes import Config
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.models import dvae
from dalle_jax.training.step import abstract_state
from dalle_jax.workdir import TOKENIZER, Workdir

replace = dataclasses.replace


def experiment(root, data, **model):
  """The experiment of the captions in small. model: other fields of its transformer's."""
  whole = golden.resolved("demo_captions", root)
  vae = dvae.Config(image=16, vocab=32, hidden=8, groups=3, blocks=1, code_dim=4)
  words = replace(whole.tokenizer, vocab=320, length=24)
  stages = {name: replace(stage, steps=2, batch=8, show_every=2) for name, stage in whole.stages.items()}
  stages["dvae"] = replace(
    stages["dvae"],
    objective=replace(stages["dvae"].objective, model=vae, patches_from=20),
    examples=replace(stages["dvae"].examples, crop=replace(stages["dvae"].examples.crop, size=16)),
  )
  old = stages["transformer"].objective
  sizes = {"text_vocab": 320, "text": 24, "image_vocab": 32, "grid": 4, "layers": 2, "heads": 2, "head_dim": 4}
  objective = replace(old, model=replace(old.model, **(sizes | model)))
  stages["transformer"] = replace(stages["transformer"], objective=objective)
  return replace(whole, data=str(data), tokenizer=words, stages=stages)


def written(root, directory):
  """The workdir, as a run leaves it at its end."""
  prepare(Scenes(Config(image=16, train=40, valid=8, test=8, test_pairs=4)), directory / "data")
  whole = experiment(root, directory / "data")
  workdir = Workdir.claim(directory / "run", whole)
  source = open_prepared(directory / "data").source("train")
  texts = [text for i in range(len(source)) for text in source[i]["captions"]]
  words = captions.train(texts, whole.tokenizer)
  workdir.keep_tokenizer(words)
  mesh = sharding.make_mesh(sharding.MeshShape(), jax.devices()[:1])
  for name, stage in whole.stages.items():
    shapes = abstract_state(stage.objective, stage.optimizer, mesh=mesh, rules=whole.rules)
    rng, state = np.random.default_rng(1), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    params = jax.tree.map(lambda x, rng=rng: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype), state.params)
    checkpoints = workdir.checkpoints(name)
    checkpoints.save(stage.steps, state._replace(params=params, ema=params), {TOKENIZER: words})
    checkpoints.close()
  return workdir
