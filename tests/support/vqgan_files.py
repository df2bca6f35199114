"""A file like those of taming-transformers' VQGANs, with random weights."""

import functools

import jax
import random_weights
from safetensors.numpy import save_file

from dalle_jax.convert import vqgan as taming
from dalle_jax.convert.matching import shapes_of
from dalle_jax.models import vqgan

SMALL = vqgan.VqganConfig(
  image=16, vocab=32, code_dim=6, latent=8, width=32, multiples=(1, 2), blocks=1, attention=(1,)
)


@functools.cache
def arrays(cfg=SMALL, seed=0):
  """Random weights by taming's names."""
  leaves = jax.tree_util.tree_flatten_with_path(shapes_of(lambda key: vqgan.init(key, cfg)))[0]
  places = [taming.source(cfg, tuple(key.key for key in path), leaf.shape) for path, leaf in leaves]
  return random_weights.draw({place.name: place.shape for place in places}, seed, scales={"embed": 1.0})


def write(path, cfg=SMALL, **more):
  """Writes the file, with more arrays. Returns its path."""
  save_file(arrays(cfg) | more, path)
  return path
