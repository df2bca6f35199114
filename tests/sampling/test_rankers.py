"""Rankers give the numbers of what they say they are, and a mix weighs them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_transformer import GRID, captions, config, weights

from dalle_jax.models import transformer
from dalle_jax.sampling.rankers import Candidates, Classified, OwnLikelihood, OwnProbability, Ranker, mix


def candidates(count=2, samples=9):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, samples, 4, 4, 3), dtype=np.uint8)
  codes = rng.integers(0, 24, (count, samples, GRID**2))
  return Candidates(np.arange(count), np.asarray(captions(count)), codes, images)


@pytest.mark.slow
def test_the_own_probability_is_the_models_and_the_likelihood_is_less_that_without_the_caption():
  cfg = config(("row",), layers=1, last=None)
  params, given = weights(cfg), candidates()
  got, probability = (ranker(model=cfg, params=params)(given) for ranker in (OwnLikelihood, OwnProbability))
  pads = cfg.text_vocab + np.arange(cfg.text)

  def nats(text_T, codes_N):
    logits = (
      transformer.Transformer(cfg)
      .apply({"params": params}, jnp.asarray(text_T)[None], jnp.asarray(codes_N)[None])
      .image_BNV
    )
    return np.asarray(jax.nn.log_softmax(logits))[0][np.arange(len(codes_N)), codes_N].sum()

  for c in range(2):
    for s in (0, 8):  # 8 is in the second part
      told = nats(given.text_CT[c], given.codes_CSP[c, s])
      untold = nats(pads, given.codes_CSP[c, s])
      assert abs(told - untold) > 0.1
      assert probability[c, s] == pytest.approx(told, abs=1e-3)
      assert got[c, s] == pytest.approx(told - untold, abs=1e-3)


def test_a_classifier_ranks_by_the_log_probability_of_the_class_that_is_asked_for():
  given = candidates()

  def classify(images_RHWC):
    return images_RHWC.reshape(len(images_RHWC), -1)[:, :5].astype(np.float64) / 50

  got = Classified(classify=classify, wanted={0: 3, 1: 1}.__getitem__)(given)
  for c, wanted in ((0, 3), (1, 1)):
    expected = jax.nn.log_softmax(classify(given.images_CSHWC[c]).astype(np.float32), axis=-1)[:, wanted]
    np.testing.assert_allclose(got[c], expected, atol=1e-5)


def test_every_ranker_is_one():
  assert isinstance(OwnLikelihood(model=config(("row",)), params={}), Ranker)
  assert isinstance(Classified(classify=len, wanted=len), Ranker)


def test_one_ranker_s_numbers_stay_as_they_are_and_several_are_standardised():
  scores = {"a": np.array([1, 2, 3, 6], np.float32), "b": np.array([1e4, 0, 0, 0], np.float32)}
  np.testing.assert_array_equal(mix(scores, {"a": 1.0}), scores["a"])
  np.testing.assert_array_equal(mix(scores, {"a": -1.0}), -scores["a"])
  standard = {name: (x - x.mean()) / x.std() for name, x in scores.items()}
  np.testing.assert_allclose(mix(scores, {"a": 1.0, "b": 0.25}), standard["a"] + 0.25 * standard["b"], rtol=1e-5)
  assert np.argmax(mix(scores, {"a": 1.0, "b": 0.25})) == 3
  assert np.argmax(mix(scores, {"a": 0.25, "b": 1.0})) == 0


def test_scores_that_are_all_alike_add_nothing():
  scores = {"a": np.array([1, 2], np.float32), "b": np.array([7, 7], np.float32)}
  assert np.isfinite(mix(scores, {"a": 1.0, "b": 1.0})).all()
