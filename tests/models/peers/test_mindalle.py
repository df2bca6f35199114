"""minDALL-E's transformer by itself; compared with its own program in tests/parity."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from dalle_jax.errors import UserError
from dalle_jax.models.peers.mindalle import Config, MinDalle


def test_the_published_sizes_are_the_default():
  assert (Config().pattern().length, Config().pattern().kind) == (320, "full")


@pytest.mark.slow
def test_the_published_network_has_1_3_billion_parameters():
  cfg = Config()
  ids = jnp.zeros((1, cfg.text), jnp.int32), jnp.zeros((1, cfg.grid**2), jnp.int32)
  shapes = jax.eval_shape(MinDalle(cfg).init, jax.random.key(0), *ids)
  assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e9, 1) == 1.3


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"grid": 0}, "grid is 0"),
    ({"heads": 5}, "1536 does not divide into 5 heads"),
    ({"carried": 65}, "carried is 65: as many as its text positions, 64, is wanted"),
    ({"dtype": "float16"}, "dtype is 'float16'"),
  ],
)
def test_sizes_that_cannot_be_are_refused(change, told):
  with pytest.raises(UserError, match=told):
    dataclasses.replace(Config(), **change)
