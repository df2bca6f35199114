"""Captions of pictures, by a transformer trained image-first: each picture read once, then its captions token by token.

    picture's keys and values, once for all of its captions -> scan over T text positions with caches

At a position a token is drawn from what may stand there: a word of the tokenizer, or the position's own pad, which
ends the caption; after it, and in the last position, nothing else. Its likelihood is that of the same choice at
temperature 1 with nothing left out, so the likelihoods of all captions of a picture add up to 1.

C pictures, S captions of each, B = C S rows, T text positions, N image tokens, V text classes.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.sampling.choose import SamplingConfig, choose, sample_keys, seeded
from dalle_jax.sampling.devices import Devices, scope
from dalle_jax.sharding import Rules


class Described(NamedTuple):
  """Captions as the tokenizer's ids, pads from their end on, and the natural logarithm of each one's likelihood."""

  text_CST: Int[Array, "C S T"]
  loglik_CS: Float[Array, "C S"]


def check_describes(model: transformer.Config) -> None:
  """Raises UserError for a transformer that writes no captions."""
  if model.order != "image_first":
    raise UserError(
      "this transformer was trained text-first: it draws pictures and writes no captions; "
      'train one image-first (order="image_first"), such as experiments/demo_captions.py'
    )


def write(
  params: PyTree,
  codes_CN: Int[np.ndarray, "C N"],
  *,
  num: int,
  seed: int,
  batch: int,
  model: transformer.Config,
  sampling: SamplingConfig,
  words: int,
  devices: Devices = Devices(),
  progress: Callable[[int], object] = lambda count: None,
) -> tuple[Int[np.ndarray, "C S T"], Float[np.ndarray, "C S"]]:
  """`describe` for any number of pictures, S = num captions of each, `batch` captions or one picture's at a time.

  devices: that write, each a part of every batch; progress: told after each batch how many captions it brought.
  """
  at_once, samples = devices.filled(min(max(1, batch // num), len(codes_CN)), num)
  key, parts = seeded(seed), []
  for first in range(0, len(codes_CN), at_once):
    # A last, smaller batch would be compiled anew, so it is filled up with its last picture.
    number_C = np.minimum(np.arange(first, first + at_once), len(codes_CN) - 1)
    codes = devices.put(codes_CN[number_C].astype(np.int32))
    how = {"model": model, "sampling": sampling, "words": words, "mesh": devices.mesh, "rules": devices.rules}
    drawn = describe(params, codes, key, jnp.asarray(number_C), jnp.arange(samples), **how)
    wanted = min(at_once, len(codes_CN) - first)
    parts.append([np.asarray(x)[:wanted, :num] for x in drawn])
    progress(num * wanted)
  text_CST, loglik_CS = (np.concatenate(each) for each in zip(*parts))
  return text_CST, loglik_CS


def tokens(text_CST: Int[np.ndarray, "*captions T"], model: transformer.Config) -> Int[np.ndarray, "*captions"]:
  """How many tokens each caption is, its end among them: what its likelihood is a product over."""
  return (text_CST < model.text_vocab).sum(-1) + 1


@functools.partial(jax.jit, static_argnames=("model", "sampling", "words", "mesh", "rules"))
def describe(
  params: PyTree,
  codes_CN: Int[Array, "C N"],
  key: Key[Array, ""],
  picture_C: Int[Array, " C"],
  sample_S: Int[Array, " S"],
  *,
  model: transformer.Config,
  sampling: SamplingConfig,
  words: int | None = None,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
) -> Described:
  """The captions numbered `sample_S` of the pictures numbered `picture_C`, whose codes are given.

  key: of the seed; with the two numbers it names the noise, so a caption does not depend on what is written beside it.
  words: ids that the tokenizer has, where those are fewer than the model knows. mesh: where the parameters lie, by
  these rules; rows are split over it. Raises UserError for a model that is text-first, with guidance, which is for
  pictures, or where the rows, C S, do not divide over the mesh.
  """
  check_describes(model)
  if sampling.guidance != 1:
    raise UserError(f"got guidance={sampling.guidance}: captions are written without, leave it at 1")
  if mesh:
    sharding.check_batch(codes_CN.shape[0] * sample_S.shape[0], 1, mesh, rules)
  with scope(mesh, rules):
    return _describe(params, codes_CN, key, picture_C, sample_S, model, sampling, words)


def _describe(
  params: PyTree,
  codes_CN: Array,
  key: Array,
  picture_C: Array,
  sample_S: Array,
  model: transformer.Config,
  sampling: SamplingConfig,
  words: int | None,
) -> Described:
  params, model = transformer.unroll(params, model)
  net = transformer.Transformer(model)
  pictures, samples = codes_CN.shape[0], sample_S.shape[0]
  caches = transformer.init_text_caches(model, pictures, samples)
  caches = net.apply({"params": params}, codes_CN, caches, method="read_picture")
  keys_B = sample_keys(key, jnp.repeat(picture_C, samples), jnp.tile(sample_S, pictures))

  def step(carry, i):
    token_B, ended_B, caches = carry
    logits_BV, caches = net.apply({"params": params}, token_B, caches, i, method="text_step")
    logits_BV = legal(logits_BV, i, ended_B, model, words)
    token_B = choose(logits_BV, keys_B, i, sampling)
    loglik_B = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), token_B[:, None], axis=1)[:, 0]
    return (token_B, token_B >= model.text_vocab, caches), (token_B, loglik_B)

  rows = pictures * samples
  first = (jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool), caches)  # the token is not read at position 0
  _, (text_TB, loglik_TB) = jax.lax.scan(step, first, jnp.arange(model.text))
  return Described(text_TB.T.reshape(pictures, samples, model.text), loglik_TB.sum(0).reshape(pictures, samples))


def legal(
  logits_BV: Float[Array, "B V"],
  i: Int[Array, ""] | int,
  ended_B: Bool[Array, " B"],
  model: transformer.Config,
  words: int | None = None,
) -> Float[Array, "B V"]:
  """The scores at position i, -inf where a class may not stand there."""
  class_V = jnp.arange(model.text_classes)
  goes_on_B1 = (~ended_B & (i < model.text - 1))[:, None]
  is_word_1V = (class_V < (model.text_vocab if words is None else words))[None]
  return jnp.where((goes_on_B1 & is_word_1V) | (class_V == model.text_vocab + i)[None], logits_BV, -jnp.inf)
