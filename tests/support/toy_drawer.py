"""A drawer of small models with random weights, and a tokenizer that knows a few words, for what reads captions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dalle_jax import sharding
from dalle_jax.data import captions
from dalle_jax.models import dvae, transformer
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.schedules import Constant

WORDS = "a red cube and a green ball on the left of blue rings, 12 of them"


def tokenizer(length=8, spaces=False):
  cfg = captions.TokenizerConfig(vocab=320, length=length, dropout=0.0, spaces=spaces)
  return captions.Tokenizer(captions.train([WORDS] * 3, cfg), cfg)


def weights(init, seed):
  shapes = sharding.unbox(jax.eval_shape(init, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype), shapes)


def drawer(length=8, mix=("row", "column"), layers=2):
  sizes = {"text_vocab": 320, "text": length, "image_vocab": 12, "grid": 4, "heads": 2, "head_dim": 8, "kernel": 3}
  words = transformer.Config(**sizes, layers=layers, mix=mix, last=None)
  pictures = dvae.Config(image=8, vocab=12, hidden=8, groups=2, blocks=1, code_dim=4)
  return Drawer(
    transformer=words,
    transformer_params=weights(TransformerNll(model=words).init, 0),
    dvae=pictures,
    dvae_params=weights(DvaeElbo(model=pictures, kl=Constant(0.0), temperature=Constant(1.0)).init, 1),
  )


def looks_at(model, token):
  """The drawer with one layer whose every query has the key of that token for its like, and of no other."""
  shapes = transformer.unroll(model.transformer_params, model.transformer)[0]
  params = jax.tree.map(jnp.asarray, shapes)
  for table in ("text_token", "image_token", "start", "text_position", "row", "column"):
    params[table] = {"embedding": params[table]["embedding"].at[:, 0].set(0)}
  params["text_token"] = {"embedding": params["text_token"]["embedding"].at[token, 0].set(20)}
  block = params["block_0"]
  qkv = block["qkv"]
  head_dim = model.transformer.head_dim
  to_first = jnp.zeros_like(qkv["kernel"][1]).at[0, ::head_dim].set(1)
  kernel = qkv["kernel"].at[0].set(0).at[1].set(to_first)
  bias = qkv["bias"].at[:2].set(0).at[0, ::head_dim].set(50)
  norm = {"scale": jnp.ones_like(block["norm_1"]["scale"]), "bias": jnp.zeros_like(block["norm_1"]["bias"])}
  params["block_0"] = block | {"qkv": {"kernel": kernel, "bias": bias}, "norm_1": norm}
  return dataclasses.replace(model, transformer_params=params)
