"""Captions of pictures: cached writing is full recomputation, all of it is legal, likelihoods are a distribution."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_transformer import GRID, TEXT, WORDS, config, weights

from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.sampling.caption import describe, legal
from dalle_jax.sampling.choose import SamplingConfig, gumbel_noise, keep_likely, sample_keys
from dalle_jax.sampling.generate import generate

PLAIN = SamplingConfig()
PICTURES = jnp.asarray(np.random.default_rng(3).integers(0, 24, (4, GRID**2)), jnp.int32)


def image_first(mix, **how):
  return dataclasses.replace(config(mix, **how), order="image_first")


def written(cfg, params, *, count=2, samples=3, first=0, seed=0, sampling=PLAIN, **how):
  numbers = jnp.arange(first, first + count), jnp.arange(samples)
  codes = PICTURES[first : first + count]
  return jax.device_get(describe(params, codes, jax.random.key(seed), *numbers, model=cfg, sampling=sampling, **how))


def recomputed(cfg, params, *, count=2, samples=3, seed=0, sampling=PLAIN):
  """The same by the whole model anew for every token, and by plain Python around it."""
  codes_BN = np.repeat(PICTURES[:count], samples, axis=0)
  keys_B = sample_keys(
    jax.random.key(seed), jnp.repeat(jnp.arange(count), samples), jnp.tile(jnp.arange(samples), count)
  )
  apply = lambda p, text: transformer.Transformer(cfg).apply({"params": p}, text, codes_BN).text_BTV  # noqa: E731
  run = jax.jit(apply, compiler_options={"xla_backend_optimization_level": 0})
  text_BT, loglik_B = np.zeros((count * samples, TEXT), np.int32), np.zeros(count * samples)
  for i in range(TEXT):
    scores_BV = np.array(run(params, jnp.asarray(text_BT))[:, i])
    noise_BV = np.asarray(gumbel_noise(keys_B, i, cfg.text_classes))
    for b, scores_V in enumerate(scores_BV):
      ended = any(text_BT[b, :i] >= WORDS)
      may = [WORDS + i] if ended or i == TEXT - 1 else [*range(WORDS), WORDS + i]
      of_legal = jnp.asarray(scores_V[may])[None]
      chosen = 0
      if sampling.temperature:
        kept = keep_likely(of_legal / sampling.temperature, sampling)
        chosen = int(np.argmax(np.asarray(kept)[0] + noise_BV[b, may]))
      else:
        chosen = int(np.argmax(of_legal))
      text_BT[b, i] = may[chosen]
      loglik_B[b] += np.asarray(jax.nn.log_softmax(of_legal))[0, chosen]
  return text_BT.reshape(count, samples, TEXT), loglik_B.reshape(count, samples)


def assert_recomputed(cfg, sampling=PLAIN):
  params = weights(cfg)
  (text, loglik), (expected, expected_loglik) = (how(cfg, params, sampling=sampling) for how in (written, recomputed))
  np.testing.assert_array_equal(text, expected)
  np.testing.assert_allclose(loglik, expected_loglik, rtol=1e-4)
  assert (loglik < -0.1).all()  # at a temperature of 0 the choice was certain, and the caption is not
  return text


@pytest.mark.parametrize(
  "kind", ["full", "row", *(pytest.param(k, marks=pytest.mark.slow) for k in ("column", "conv"))]
)
def test_cached_writing_is_full_recomputation(kind):
  text = assert_recomputed(image_first((kind,)))
  assert len(np.unique(text)) > 5


@pytest.mark.parametrize(
  "sampling",
  [
    SamplingConfig(temperature=0.7, top_k=4),
    pytest.param(SamplingConfig(temperature=1.3, top_p=0.6), marks=pytest.mark.slow),
    pytest.param(SamplingConfig(temperature=0.0), marks=pytest.mark.slow),
  ],
  ids=["top-k", "top-p", "most likely"],
)
def test_a_stack_of_all_kinds_that_training_loops_over_is_written_alike(sampling):
  cfg = image_first(("row", "column"), layers=5, last="conv")
  assert cfg.scanned == 2
  text = assert_recomputed(cfg, sampling)
  assert (text[:, :1] == text).all() == (sampling.temperature == 0)  # no noise: all captions of a picture are alike


@pytest.fixture(scope="module")
def row():
  cfg = image_first(("row",))
  return cfg, weights(cfg)


def test_what_is_written_is_words_and_then_the_pads_of_their_positions(row):
  text, _ = written(*row, count=4, samples=40)
  own_pad = WORDS + np.arange(TEXT)
  is_word = text < WORDS
  np.testing.assert_array_equal(np.where(is_word, own_pad, text), np.broadcast_to(own_pad, text.shape))
  assert not (is_word[..., 1:] & ~is_word[..., :-1]).any()
  assert not is_word[..., -1].any()
  lengths = is_word.sum(-1)
  assert set(np.unique(lengths)) == set(range(TEXT))  # from the empty caption to one that fills the window


def test_words_that_the_tokenizer_lacks_are_not_written(row):
  few, _ = written(*row, count=4, samples=40, words=5)
  words = few[few < WORDS]
  assert words.max() == 4
  assert len(np.unique(written(*row, count=4, samples=40)[0])) > 10


def test_only_the_last_position_and_an_end_leave_no_choice(row):
  cfg, _ = row
  scores = jnp.zeros((2, cfg.text_classes))
  ended = jnp.asarray([False, True])
  choices = [np.isfinite(legal(scores, i, ended, cfg)).sum(-1).tolist() for i in range(TEXT)]
  assert choices == [[WORDS + 1, 1]] * (TEXT - 1) + [[1, 1]]


def test_likelihoods_of_all_captions_of_a_picture_add_up_to_one():
  cfg = dataclasses.replace(image_first(("row",)), text_vocab=2, text=3)
  params = weights(cfg)
  found = {}
  for seed in range(3):
    text, loglik = written(cfg, params, count=1, samples=60, seed=seed)
    found |= {tuple(t): p for t, p in zip(text[0].tolist(), loglik[0].tolist())}
  pad = lambda words: (*words, *range(2 + len(words), 5))  # noqa: E731
  assert set(found) == {pad(words) for n in range(3) for words in itertools.product(range(2), repeat=n)}
  assert sum(np.exp(p) for p in found.values()) == pytest.approx(1, rel=1e-5)


def test_captions_are_drawn_as_often_as_their_likelihood_says():
  cfg = dataclasses.replace(image_first(("full",)), text_vocab=2, text=3)
  text, loglik = written(cfg, weights(cfg), count=1, samples=2000)
  _, first, times = np.unique(text[0], axis=0, return_index=True, return_counts=True)
  p = np.exp(loglik[0, first])
  assert np.abs(times / 2000 - p).max() < 4 * np.sqrt(0.25 / 2000)
  assert p.max() > 1.5 * p.min()


def test_a_caption_does_not_depend_on_what_is_written_beside_it(row):
  together, alone = written(*row), written(*row, count=1, first=1, samples=2)
  np.testing.assert_array_equal(together[0][1:, :2], alone[0])
  np.testing.assert_allclose(together[1][1:, :2], alone[1], rtol=1e-4)


def test_captions_pictures_and_seeds_differ(row):
  text, other = written(*row, samples=6)[0], written(*row, samples=6, seed=1)[0]
  assert (text[0] != text[0, :1]).any()
  assert (text[0] != text[1]).any()
  assert (text != other).any()


def test_the_wrong_order_is_one_line_both_ways(row):
  cfg, params = row
  text_first = dataclasses.replace(cfg, order="text_first")
  with pytest.raises(UserError, match=r"trained text-first: it draws pictures and writes no captions; .*demo_captions"):
    written(text_first, params)
  text = jnp.zeros((1, TEXT), jnp.int32)
  numbers = jnp.arange(1), jnp.arange(1)
  with pytest.raises(UserError, match="trained image-first: it writes captions of pictures and draws none"):
    generate(params, text, jax.random.key(0), *numbers, model=cfg, sampling=PLAIN)
  with pytest.raises(UserError, match="captions need the image first"):
    transformer.init_text_caches(text_first, 1, 1)
  with pytest.raises(UserError, match="drawing needs text first"):
    transformer.init_caches(cfg, 1)
  with pytest.raises(UserError, match=r"guidance=2\.0: captions are written without"):
    written(cfg, params, sampling=SamplingConfig(guidance=2.0))
