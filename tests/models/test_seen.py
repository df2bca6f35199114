"""What is watched of attention is what the model computes, and watching leaves its programs as they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_transformer as toy

from dalle_jax.models import seen, transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.ops.sparse_attention import attention_weights


def stream(cfg):
  codes = np.random.default_rng(2).integers(0, cfg.image_vocab, (2, cfg.grid**2))
  return toy.captions(2), jnp.asarray(codes, jnp.int32)


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("scan", [True, False])
def test_the_weights_of_what_is_seen_give_what_attention_gave(scan, remat):
  cfg = dataclasses.replace(toy.config(("row", "column"), layers=5, last="conv"), scan=scan, remat=remat)
  params = toy.weights(cfg)
  kinds = []

  def tell(layer):
    kinds.append(layer.pattern.kind)
    weights_BHLL = attention_weights(layer.q_BLHK, layer.k_BLHK, layer.pattern)
    return weights_BHLL, jnp.einsum("BHQS,BSHK->BQHK", weights_BHLL, layer.v_BLHK), layer.o_BLHK

  found = jax.jit(lambda params, *given: seen.by_layer(params, cfg, *given, tell))(params, *stream(cfg))
  assert tuple(kinds) == cfg.kinds()
  assert len(found) == 5
  for weights, ours, model in found:
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert np.ptp(model) > 0.1
    np.testing.assert_allclose(ours, model, atol=1e-5)
  assert not np.allclose(found[0][2], found[2][2], atol=0.1)  # layers of the same kind, each its own


def test_queries_of_the_first_layer_are_made_of_the_embeddings():
  cfg = toy.config(("full",), layers=3)
  params = toy.weights(cfg)
  text, codes = stream(cfg)
  queries = jax.jit(lambda params, *given: seen.by_layer(params, cfg, *given, lambda layer: layer.q_BLHK))
  q_BLHK = queries(params, text, codes)[0]
  block = transformer.unroll(params, cfg)[0]["block_0"]
  x_D = params["start"]["embedding"][0] + params["text_position"]["embedding"][0]
  normed_D = (x_D - x_D.mean()) / np.sqrt(x_D.var() + 1e-5) * block["norm_1"]["scale"] + block["norm_1"]["bias"]
  expected = normed_D @ block["qkv"]["kernel"][0] + block["qkv"]["bias"][0]
  np.testing.assert_allclose(q_BLHK[0, 0].reshape(-1), expected, rtol=1e-4, atol=1e-4)


def test_the_step_that_trains_is_the_same_program_after_a_look():
  cfg = dataclasses.replace(toy.config(("row", "column"), layers=3), remat="full")
  params, (text, codes) = toy.weights(cfg), stream(cfg)

  def program():
    loss = lambda params: TransformerNll(model=cfg).loss(  # noqa: E731
      params, {}, {"text": text, "codes": codes}, jax.random.key(0), jnp.int32(0)
    )
    return jax.jit(jax.grad(loss, has_aux=True)).lower(params).as_text()

  before = program()
  looks = []
  seen.by_layer(params, cfg, text, codes, lambda layer: looks.append(layer.pattern.kind))
  assert looks == ["row", "column", "row"]
  assert program() == before
  assert len(looks) == 3
