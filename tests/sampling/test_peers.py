"""Codes drawn from the published transformers, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import peer_arrays
import pytest
from peer_arrays import GRID, HEADS, IMAGE_VOCAB, TEXT

from dalle_jax.convert import mindalle, rudalle
from dalle_jax.errors import UserError
from dalle_jax.models.peers.mindalle import MinDalle
from dalle_jax.models.peers.rudalle import RuDalle
from dalle_jax.sampling.choose import SamplingConfig, choose, sample_keys, seeded
from dalle_jax.sampling.peers import draw

TEXTS = jnp.array([[5, 6, 7, 8], [9, 3, 0, 0]], jnp.int32)
RANDOM = SamplingConfig(temperature=0.7, top_k=8)


def network(kind):
  if kind == "mindalle":
    cfg, params = mindalle.read(peer_arrays.mindalle(), heads=HEADS)
    return MinDalle(cfg), jax.tree.map(jnp.asarray, params)
  cfg, params = rudalle.read(peer_arrays.rudalle(), heads=HEADS, version=int(kind[-1]))
  return RuDalle(cfg), jax.tree.map(jnp.asarray, params)


def drawn(net, params, texts=TEXTS, captions=(4, 9), samples=(0, 3), sampling=RANDOM):
  numbers = (jnp.array(which, jnp.int32) for which in (captions, samples))
  return np.asarray(draw(params, texts, seeded(1), *numbers, net=net, sampling=sampling))


@pytest.mark.parametrize("kind", ["mindalle", "rudalle2", "rudalle3"])
def test_every_code_is_the_one_that_the_teacher_forced_logits_give(kind):
  net, params = network(kind)
  codes_CSN = drawn(net, params)
  assert codes_CSN.shape == (2, 2, GRID**2)
  assert len(np.unique(codes_CSN, axis=1)) > 1
  codes_BN, text_BT = codes_CSN.reshape(4, -1), jnp.repeat(TEXTS, 2, axis=0)
  keys_B = sample_keys(seeded(1), jnp.array([4, 4, 9, 9]), jnp.array([0, 3, 0, 3]))
  logits_BNV = jax.jit(net.apply)({"params": params}, text_BT, jnp.asarray(codes_BN)).image_BNW
  assert logits_BNV.shape == (4, GRID**2, IMAGE_VOCAB)
  chosen = jax.jit(jax.vmap(lambda logits_BV, j: choose(logits_BV, keys_B, j, RANDOM), (1, 0), 1))
  np.testing.assert_array_equal(codes_BN, chosen(logits_BNV, jnp.arange(GRID**2)))
  # Logits of the position before give others.
  assert (codes_BN != chosen(jnp.roll(logits_BNV, 1, axis=1), jnp.arange(GRID**2))).mean() > 0.3


def test_a_sample_is_the_same_whatever_is_drawn_beside_it():
  net, params = network("rudalle3")
  alone = drawn(net, params, TEXTS[1:], captions=(9,), samples=(3,))
  np.testing.assert_array_equal(alone[0, 0], drawn(net, params)[1, 1])


def test_what_cannot_be_drawn_is_told():
  net, params = network("mindalle")
  with pytest.raises(UserError, match=f"a text has 3 positions, this network's has {TEXT}"):
    drawn(net, params, TEXTS[:, :3])
  with pytest.raises(UserError, match="got guidance=3"):
    drawn(net, params, sampling=SamplingConfig(guidance=3.0))
