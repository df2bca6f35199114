import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import toy_drawer
import toy_transformer as toy

from dalle_jax.errors import UserError
from dalle_jax.models import seen
from dalle_jax.ops.sparse_attention import attention_weights
from dalle_jax.sampling import attention


def stream(cfg):
  codes = np.random.default_rng(2).integers(0, cfg.image_vocab, (2, cfg.grid**2))
  return toy.captions(2), jnp.asarray(codes, jnp.int32)


def test_it_is_the_mean_over_heads_of_the_whole_matrix_s_corner():
  cfg = toy.config(("row", "column"), layers=3)
  params = toy.weights(cfg)
  got = attention.on_text(params, *stream(cfg), model=cfg)
  whole = lambda layer: attention_weights(layer.q_BLHK, layer.k_BLHK, layer.pattern)  # noqa: E731
  for ours, weights_BHLL in zip(got, seen.by_layer(params, cfg, *stream(cfg), whole), strict=True):
    np.testing.assert_allclose(ours, weights_BHLL.mean(1)[:, toy.TEXT :, : toy.TEXT], atol=1e-6)
    assert np.ptp(ours) > 0.05
    assert (ours.sum(-1) < 1).all()


def test_a_model_made_to_look_at_one_token_shows_it():
  words = toy_drawer.tokenizer()
  (cube,) = words.encode("cube")
  model = toy_drawer.looks_at(toy_drawer.drawer(mix=("full",), layers=1), cube)
  text = jnp.asarray(words.ids("a red cube on the left"))[None]
  codes = jnp.zeros((1, 16), jnp.int32)
  weights_NT = attention.on_text(model.transformer_params, text, codes, model=model.transformer)[0, 0]
  assert (weights_NT[:, 3] > 0.99).all()  # the start, a, red, cube


def test_a_model_whose_image_comes_first_has_no_caption_to_look_at():
  plain = toy.config(("row",))
  cfg = dataclasses.replace(plain, order="image_first")
  with pytest.raises(UserError, match="image tokens come before the text: they look at no caption"):
    attention.on_text(toy.weights(plain), *stream(plain), model=cfg)
