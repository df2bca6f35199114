"""The choice of a token against a NumPy statement of its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dalle_jax.errors import UserError
from dalle_jax.sampling.choose import SamplingConfig, choose, gumbel_noise, keep_likely, sample_keys, seeded

VOCAB = 11


def probabilities(logits, temperature, top_k, top_p):
  """The definition, one row at a time, in float64; for logits without ties."""
  p = np.exp(logits.astype(np.float64) / temperature)
  order = list(np.argsort(-p))
  kept = order[:top_k] if top_k else order
  if top_p is not None:
    total, held, fewest = sum(p[kept]), 0.0, []
    for token in kept:
      fewest.append(token)
      held += p[token] / total
      if held >= top_p:
        break
    kept = fewest
  result = np.zeros_like(p)
  result[kept] = p[kept] / sum(p[kept])
  return result


@settings(deadline=None, max_examples=50)
@given(
  seed=st.integers(0, 10_000),
  temperature=st.sampled_from([0.3, 1.0, 2.0]),
  top_k=st.sampled_from([None, 1, 4, VOCAB, 99]),
  top_p=st.sampled_from([None, 0.05, 0.5, 0.9, 1.0]),
)
def test_what_is_kept_is_the_definition(seed, temperature, top_k, top_p):
  logits = np.random.default_rng(seed).normal(size=(3, VOCAB)).astype(np.float32) * 2
  cfg = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
  got = jax.nn.softmax(keep_likely(jnp.asarray(logits) / temperature, cfg))
  expected = [probabilities(row, temperature, top_k, top_p) for row in logits]
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_tokens_are_drawn_with_the_defined_probabilities():
  cfg, draws = SamplingConfig(temperature=0.7, top_k=6, top_p=0.95), 20_000
  logits = np.random.default_rng(0).normal(size=VOCAB).astype(np.float32)
  keys = sample_keys(jax.random.key(1), jnp.zeros(draws, jnp.int32), jnp.arange(draws))
  tokens = choose(jnp.tile(jnp.asarray(logits), (draws, 1)), keys, 3, cfg)
  expected = probabilities(logits, 0.7, 6, 0.95)
  counts = np.bincount(tokens, minlength=VOCAB)
  assert not counts[expected == 0].any()
  assert stats.chisquare(counts[expected > 0], draws * expected[expected > 0]).pvalue > 1e-3


def test_temperature_zero_takes_the_most_likely_token():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, VOCAB)), jnp.float32)
  keys = sample_keys(jax.random.key(0), jnp.arange(5), jnp.arange(5))
  got = choose(logits, keys, 0, SamplingConfig(temperature=0.0))
  np.testing.assert_array_equal(got, np.argmax(logits, -1))


def test_ties_with_the_last_one_kept_are_kept():
  logits = jnp.asarray([[2.0, 1.0, 1.0, 0.0]])
  for cfg in (SamplingConfig(top_k=2), SamplingConfig(top_p=0.7)):
    np.testing.assert_array_equal(jnp.isfinite(keep_likely(logits, cfg)), [[True, True, True, False]])


def test_noise_belongs_to_the_sample_and_differs_with_all_that_names_it():
  caption, sample = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
  noise = gumbel_noise(sample_keys(jax.random.key(5), caption, sample), 7, VOCAB)
  alone = gumbel_noise(sample_keys(jax.random.key(5), caption[2:3], sample[2:3]), 7, VOCAB)
  np.testing.assert_array_equal(noise[2], alone[0])
  others = [
    gumbel_noise(sample_keys(jax.random.key(5), caption, sample), 8, VOCAB)[2],
    gumbel_noise(sample_keys(jax.random.key(6), caption, sample), 7, VOCAB)[2],
    noise[0],
    noise[1],
    noise[3],
  ]
  assert not any(np.any(np.asarray(noise[2]) == np.asarray(other)) for other in others)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}])
def test_impossible_settings_are_refused(wrong):
  with pytest.raises(UserError, match="wanted"):
    SamplingConfig(**wrong)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_would_draw_what_another_draws_is_refused(seed):
  with pytest.raises(UserError, match="wanted 0 to 4294967295"):
    seeded(seed)


def test_a_seed_s_key_is_jax_s_own():
  assert seeded(2**32 - 1) == jax.random.key(2**32 - 1)
