"""A workdir whose three stages have random weights, for the tests of what draws with one."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax import config, sharding
from dalle_jax.data import captions
from dalle_jax.data.captions import TokenizerConfig
from dalle_jax.data.images import Stage1Crop
from dalle_jax.experiment import Codes, Experiment, Pictures, Stage
from dalle_jax.models import clip, dvae, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.step import State
from dalle_jax.workdir import Workdir

WORDS = TokenizerConfig(vocab=320, length=32, spaces=False)
READS = {"text_vocab": WORDS.vocab, "text": WORDS.length}
VAE = dvae.Config(image=16, vocab=32, hidden=8, groups=3, blocks=1, code_dim=4)
STREAM = transformer.Config(**READS, image_vocab=32, grid=4, layers=2, heads=2, head_dim=4, mix=("row", "column"))
TOWERS = clip.Config(
  **READS,
  image=16,
  patch=8,
  embed=8,
  vision_layers=1,
  vision_width=8,
  vision_heads=2,
  text_layers=1,
  text_width=8,
  text_heads=2,
)


def experiment():
  def stage(objective, examples):
    return Stage(steps=1, batch=8, objective=objective, optimizer=AdamW(lr=Constant(1e-3)), examples=examples)

  elbo = DvaeElbo(model=VAE, kl=Constant(0.0), temperature=Constant(1.0))
  stages = {
    "dvae": stage(elbo, Pictures(crop=Stage1Crop(size=16))),
    "transformer": stage(TransformerNll(model=STREAM), Codes()),
    "clip": stage(ClipContrastive(model=TOWERS, dvae=VAE), Codes()),
  }
  return Experiment(name="tiny", data="data", tokenizer=WORDS, stages=stages)


def workdir(path, texts, of=None):
  """Such a workdir at `path`, its tokenizer trained on `texts`. of: an experiment of the same stages."""
  run = Workdir.claim(path, of or experiment())
  words = captions.train(texts, WORDS)
  run.keep_tokenizer(words)
  files = {"tokenizer.model": words, "experiment.json": json.dumps(config.to_dict(run.experiment())).encode()}
  rng = np.random.default_rng(0)
  for name, stage in run.experiment().stages.items():
    shapes = sharding.unbox(jax.eval_shape(stage.objective.init, jax.random.key(0)))
    params = jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype), shapes)
    none = jnp.zeros((), jnp.int32)
    state = State(
      step=none + 1,
      params=params,
      opt={},
      ema=None,
      norms=jnp.zeros(1),
      skipped=none,
      skipped_total=none,
      skipped_spikes=none,
    )
    checkpoints = run.checkpoints(name)
    checkpoints.save(1, state, files)
    checkpoints.wait()
  return run
