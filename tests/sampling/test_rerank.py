import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalle_jax import sharding
from dalle_jax.models import clip
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.sampling import rerank


def brute_force(scores, values, n):
  """The mean over all subsets of the value of the subset's best-scored sample."""
  subsets = list(itertools.combinations(range(len(scores)), n))
  return np.mean([values[max(subset, key=lambda i: (scores[i], -i))] for subset in subsets])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 7), st.data())
def test_the_best_of_n_is_the_mean_over_all_subsets(seed, total, data):
  n = data.draw(st.integers(1, total))
  rng = np.random.default_rng(seed)
  scores = rng.integers(0, 4, (3, total)).astype(np.float32)  # with ties
  values = rng.random((3, total)).astype(np.float32)
  expected = [brute_force(s, v, n) for s, v in zip(scores, values)]
  np.testing.assert_allclose(rerank.best_of(scores, values, n), expected, atol=1e-6)


def test_one_of_n_is_the_plain_mean_and_all_of_n_the_best():
  scores, right = np.array([[0.1, 0.9, 0.5]], np.float32), np.array([[True, False, False]])
  np.testing.assert_allclose(rerank.best_of(scores, right, 1), [1 / 3])
  np.testing.assert_array_equal(rerank.best_of(scores, right, 3), [0.0])
  np.testing.assert_array_equal(rerank.any_of(right, 3), [1.0])
  np.testing.assert_allclose(rerank.any_of(right, 2), [2 / 3])


@pytest.mark.parametrize("n", [0, 4])
def test_the_best_of_more_than_were_drawn_is_refused(n):
  with pytest.raises(ValueError, match="wanted 1 to 3"):
    rerank.best_of(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32), n)


def test_the_best_come_first_and_the_earlier_of_equals():
  np.testing.assert_array_equal(rerank.best(np.array([0.1, 0.5, 0.3, 0.5], np.float32), 3), [1, 3, 2])


def test_the_curve_is_drawn_at_powers_of_two_and_at_its_end():
  assert rerank.powers_of_two(1) == [1]
  assert rerank.powers_of_two(32) == [1, 2, 4, 8, 16, 32]
  assert rerank.powers_of_two(12) == [1, 2, 4, 8, 12]


@pytest.mark.slow
def test_scores_are_the_products_of_what_training_compares():
  cfg = clip.Config(
    image=8, patch=4, text_vocab=16, text=4, embed=8, vision_layers=1, vision_width=16, vision_heads=2, text_layers=1,
    text_width=16, text_heads=2,
  )  # fmt: skip
  params = sharding.unbox(jax.jit(ClipContrastive(model=cfg).init)(jax.random.key(0)))
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
  text = jnp.asarray([[1, 2, 18, 19], [5, 17, 18, 19]], jnp.int32)
  pictures = rerank.embed_pictures(params, cfg, jnp.asarray(images))
  captions = rerank.embed_captions(params, cfg, text)
  expected = clip.Clip(cfg).apply({"params": params}, jnp.asarray(images[:2] / np.float32(255)), text)
  np.testing.assert_allclose(pictures[:2], expected[0], atol=1e-5)
  np.testing.assert_allclose(captions, expected[1], atol=1e-5)
