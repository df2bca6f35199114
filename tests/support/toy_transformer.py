"""A small transformer with random weights, and captions for it, for the tests of drawing."""

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax import sharding
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll

TEXT, GRID, WORDS = 5, 5, 17


def config(mix, layers=2, last=None, kernel=3):
  return transformer.Config(
    text_vocab=WORDS,
    text=TEXT,
    image_vocab=24,
    grid=GRID,
    layers=layers,
    heads=2,
    head_dim=8,
    mix=mix,
    last=last,
    kernel=kernel,
  )


def weights(cfg):
  """Every parameter drawn at random, so that heads, norms and positions all count."""
  shapes = sharding.unbox(jax.eval_shape(TransformerNll(model=cfg).init, jax.random.key(0)))
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype), shapes)


def captions(count):
  text = np.random.default_rng(0).integers(0, WORDS, (count, TEXT))
  text[:, 3:] = WORDS + np.arange(3, TEXT)  # the pads of positions 3 and on
  return jnp.asarray(text, jnp.int32)
