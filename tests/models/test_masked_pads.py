"""A transformer that looks at no pads: against one whose text has no room for them, in training and in every cache."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_transformer as toy

from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.sampling import attention, likelihood
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.generate import generate, generate_recompute

LENGTH = 4  # the start and the three words of a caption
MIX = ("row", "column")


def masked(**more):
  return dataclasses.replace(toy.config(MIX, layers=3, last="conv"), mask_pads=True, **more)


def codes(cfg, count):
  return jnp.asarray(np.random.default_rng(2).integers(0, cfg.image_vocab, (count, cfg.grid**2)), jnp.int32)


def without_pads(cfg, params, text_BT):
  """The same model and captions with so many text positions that there is no pad among what they hold."""
  cut = lambda tree, rows: {"embedding": tree["embedding"][:rows]}  # noqa: E731
  short = params | {"text_position": cut(params["text_position"], LENGTH)}
  short["text_token"] = cut(params["text_token"], cfg.text_vocab + LENGTH)
  short["text_head"] = {"kernel": params["text_head"]["kernel"][:, : cfg.text_vocab + LENGTH]}
  return dataclasses.replace(cfg, text=LENGTH, mask_pads=False), short, text_BT[:, :LENGTH]


@functools.cache
def forward(cfg):
  net = transformer.Transformer(cfg)
  quick = {"xla_backend_optimization_level": 0}  # it runs for less time than it takes to compile
  return jax.jit(lambda params, *tokens: net.apply({"params": params}, *tokens).image_BNV, compiler_options=quick)


def image_scores(cfg, params, text_BT, codes_BN):
  return np.asarray(forward(cfg)(params, text_BT, codes_BN))


@pytest.mark.parametrize(
  ("scan", "attention"), [(True, "xla"), pytest.param(False, "reference", marks=pytest.mark.slow)]
)
def test_the_image_is_scored_as_if_there_were_no_pads(scan, attention):
  cfg = masked(scan=scan, attention=attention)
  params, text = toy.weights(cfg), toy.captions(3)
  got = image_scores(cfg, params, text, codes(cfg, 3))
  wanted = image_scores(*without_pads(cfg, params, text), codes(cfg, 3))
  np.testing.assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max())
  learned = image_scores(dataclasses.replace(cfg, mask_pads=False), params, text, codes(cfg, 3))
  assert np.abs(learned - wanted).max() > 0.01 * np.abs(wanted).max()


def test_captions_of_unlike_lengths_are_masked_each_at_its_own():
  cfg = masked(scan=False)
  params, text = toy.weights(cfg), np.array(toy.captions(3))
  text[1, 1:3] = cfg.text_vocab + np.arange(1, 3)  # a caption of one word
  text = jnp.asarray(text)
  whole = image_scores(cfg, params, text, codes(cfg, 3))
  alone = np.concatenate([image_scores(cfg, params, text[i : i + 1], codes(cfg, 3)[i : i + 1]) for i in range(3)])
  np.testing.assert_allclose(whole, alone, atol=2e-5 * np.abs(alone).max())
  other = params | {"text_token": {"embedding": params["text_token"]["embedding"].at[cfg.text_vocab :].add(1.0)}}
  np.testing.assert_array_equal(image_scores(cfg, other, text, codes(cfg, 3)), whole)


@pytest.mark.parametrize(
  ("layers", "guidance", "given"),
  [
    (1, 1.0, False),
    pytest.param(3, 1.0, False, marks=pytest.mark.slow),
    pytest.param(3, 2.0, True, marks=pytest.mark.slow),
  ],
)
def test_drawing_with_caches_is_full_recomputation(layers, guidance, given):
  cfg = dataclasses.replace(masked(), layers=layers)
  params, text = toy.weights(cfg), toy.captions(2)
  top = jnp.where(jnp.arange(cfg.grid**2) < 7, codes(cfg, 2), -1) if given else None
  numbers = jnp.arange(2), jnp.arange(3)
  how = {"model": cfg, "sampling": SamplingConfig(guidance=guidance), "given_CN": top}
  ours, wanted = (
    np.asarray(f(params, text, jax.random.key(0), *numbers, **how)) for f in (generate, generate_recompute)
  )
  np.testing.assert_array_equal(ours, wanted)
  unmasked = how | {"model": dataclasses.replace(cfg, mask_pads=False)}
  assert (np.asarray(generate(params, text, jax.random.key(0), *numbers, **unmasked)) != wanted).any()


def test_captions_that_were_read_once_are_masked_too():
  cfg = masked()
  params, text = toy.weights(cfg), toy.captions(2)
  of = functools.partial(jnp.repeat, repeats=2, axis=0)
  read = likelihood.read_captions(params, text, model=cfg)
  got = likelihood.image_given_read(params, read, codes(cfg, 4), model=cfg)
  wanted = likelihood.image_given_caption(params, of(text), codes(cfg, 4), model=cfg)
  np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_no_attention_is_shown_on_pads():
  cfg = masked(scan=False)
  weights_ABNT = attention.on_text(toy.weights(cfg), toy.captions(2), codes(cfg, 2), model=cfg)
  assert (np.asarray(weights_ABNT[..., LENGTH:]) == 0).all()
  assert (np.asarray(weights_ABNT[..., :LENGTH]) > 0).any()


def test_it_is_refused_where_the_image_comes_first():
  with pytest.raises(UserError, match="mask_pads"):
    masked(order="image_first")
