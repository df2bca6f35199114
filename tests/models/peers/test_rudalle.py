"""ruDALL-E's transformer by itself; compared with its own program in tests/parity."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import peer_arrays
import pytest
from peer_arrays import GRID, HEADS, TEXT, TEXT_VOCAB

from dalle_jax.convert import rudalle as convert
from dalle_jax.errors import UserError
from dalle_jax.models.peers.attention import Torus
from dalle_jax.models.peers.rudalle import Config, RuDalle


def test_the_published_sizes_are_the_default():
  cfg = Config()
  assert (cfg.text_classes, cfg.sees(0).length) == (16512, 1152)
  assert [cfg.sees(i).kind for i in (0, 1, 2, 3, 4, 5, 22, 23)] == [
    *("row", "column", "row", "row", "row", "column", "row", "conv_clamped")
  ]


def test_a_window_that_wraps_is_this_picture():
  # The middle row of a grid of 3 sees the rows around it; of 4 x 4 under 3 x 3, the corner sees its neighbours across.
  mask = Torus(text=1, grid=4, kernel=3).mask()
  assert mask[16, 1:].reshape(4, 4).astype(int).tolist() == [[1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]]
  assert mask[:, 0].all()
  assert not np.triu(mask, 1).any()


def test_pads_are_told_apart_by_their_position():
  cfg, params = convert.read(peer_arrays.rudalle(), heads=HEADS, version=3)
  codes = jnp.zeros((1, GRID**2), jnp.int32)
  net = jax.jit(lambda ids: RuDalle(cfg).apply({"params": params}, ids, codes, method="joint"))
  params = jax.tree.map(jnp.asarray, params)
  joint = lambda ids: net(jnp.array([ids], jnp.int32))  # noqa: E731
  absent = joint([5, 6, 0, 0])
  np.testing.assert_array_equal(absent, joint([5, 6, TEXT_VOCAB + 2, TEXT_VOCAB + 3]))
  assert np.abs(absent - joint([5, 6, TEXT_VOCAB + 3, TEXT_VOCAB + 2])).max() > 1e-3


def test_the_published_network_has_1_3_billion_parameters():
  cfg = Config()
  ids = jnp.zeros((1, cfg.text), jnp.int32), jnp.zeros((1, cfg.grid**2), jnp.int32)
  shapes = jax.eval_shape(RuDalle(cfg).init, jax.random.key(0), *ids)
  assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e9, 1) == 1.3


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"layers": 0}, "layers is 0"),
    ({"heads": 5}, "2048 does not divide into 5 heads"),
    ({"carried": 127}, "carried is 127: 128 or 129 is wanted"),
    ({"kernel": 4}, "kernel is 4: an odd number"),
    ({"dtype": "float16"}, "dtype is 'float16'"),
  ],
)
def test_sizes_that_cannot_be_are_refused(change, told):
  with pytest.raises(UserError, match=told):
    dataclasses.replace(Config(), **change)


def test_in_bfloat16_scores_that_overflow_float16_do_no_harm():
  arrays = peer_arrays.rudalle()
  for name in [name for name in arrays if name.endswith("query_key_value.weight")]:
    arrays[name][: len(arrays[name]) * 2 // 3] *= 1e4
  cfg, params = convert.read(arrays, heads=HEADS, version=3)
  ids = jnp.full((1, TEXT), 5), jnp.zeros((1, GRID**2), jnp.int32)
  net = RuDalle(dataclasses.replace(cfg, dtype="bfloat16"))
  logits = jax.jit(net.apply)({"params": jax.tree.map(jnp.asarray, params)}, *ids)
  assert all(np.isfinite(part).all() for part in jax.tree.leaves(logits))
