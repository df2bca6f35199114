"""Log-likelihoods of tokens: those of all scores and of jax's log_softmax, by parts too; sums are probabilities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_transformer as toy

from dalle_jax import sharding
from dalle_jax.models import transformer
from dalle_jax.sampling import likelihood
from dalle_jax.sharding import MeshShape, Rules


def pairs(cfg, count=3):
  codes = np.random.default_rng(2).integers(0, cfg.image_vocab, (count, cfg.grid**2))
  return toy.captions(count), jnp.asarray(codes, jnp.int32)


def by_all_scores(cfg, params, text_BT, codes_BN):
  logits = transformer.Transformer(cfg).apply({"params": params}, text_BT, codes_BN)
  pick = lambda scores, ids: jnp.take_along_axis(jax.nn.log_softmax(scores), ids[..., None], -1)[..., 0]  # noqa: E731
  return pick(logits.text_BTV, text_BT), pick(logits.image_BNV, codes_BN)


@pytest.mark.parametrize("most_scores", [10**9, 200, 1])
@pytest.mark.parametrize("mix", [("row", "column"), pytest.param(("full",), marks=pytest.mark.slow)])
def test_every_token_has_the_log_probability_that_all_scores_give(mix, most_scores):
  cfg = toy.config(mix, last="conv")
  params = toy.weights(cfg)
  text, codes = pairs(cfg)
  got = likelihood.log_likelihoods(params, text, codes, model=cfg, most_scores=most_scores)
  for ours, wanted in zip(got, by_all_scores(cfg, params, text, codes), strict=True):
    assert np.ptp(wanted) > 1
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("most_scores", "whole"), [(10**9, True), (1000, False)])
def test_scores_of_all_classes_exist_only_where_they_are_few(most_scores, whole):
  cfg = toy.config(("row",))
  text, codes = pairs(cfg)
  shapes = jax.eval_shape(lambda: toy.weights(cfg))
  program = likelihood.log_likelihoods.lower(shapes, text, codes, model=cfg, most_scores=most_scores).as_text()
  assert (f"x{cfg.grid**2}x{cfg.image_vocab}xf32>" in program) == whole


def test_probabilities_of_all_pictures_of_a_caption_sum_to_one():
  cfg = transformer.Config(
    text_vocab=5, text=3, image_vocab=3, grid=2, layers=1, heads=1, head_dim=4, mix=("full",), last=None
  )
  codes = jnp.asarray(list(itertools.product(range(3), repeat=4)), jnp.int32)
  text = jnp.tile(jnp.array([[2, 4, 7]], jnp.int32), (len(codes), 1))
  nats = likelihood.image_given_caption(toy.weights(cfg), text, codes, model=cfg)
  assert np.ptp(nats) > 1
  assert float(jnp.exp(jax.nn.logsumexp(nats))) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("mix", [("row", "column"), ("full",), ("conv",)])
def test_pictures_after_captions_that_were_read_are_as_likely_as_with_captions_read_beside_them(mix):
  cfg = toy.config(mix, layers=5, last="conv")
  params = toy.weights(cfg)
  _, codes = pairs(cfg, 3)
  text = toy.captions(2)
  texts = likelihood.read_captions(params, text, model=cfg)
  got = likelihood.image_given_read(params, texts, jnp.tile(codes, (2, 1)), model=cfg)
  wanted = [likelihood.image_given_caption(params, jnp.tile(each, (3, 1)), codes, model=cfg) for each in text]
  assert np.ptp(np.stack(wanted), axis=0).min() > 0.01  # ten times what may differ
  np.testing.assert_allclose(got, np.concatenate(wanted), rtol=1e-5, atol=1e-4)


def test_captions_that_were_read_are_not_computed_again():
  cfg = toy.config(("row",))
  shapes = jax.eval_shape(lambda: toy.weights(cfg))
  texts = jax.eval_shape(lambda p: likelihood.read_captions(p, toy.captions(1), model=cfg), shapes)
  codes = pairs(cfg)[1]
  flops = [
    lowered.compile().cost_analysis()["flops"]
    for lowered in (
      likelihood.image_given_read.lower(shapes, texts, codes, model=cfg),
      likelihood.image_given_caption.lower(shapes, jnp.tile(toy.captions(1), (3, 1)), codes, model=cfg),
    )
  ]
  # 25 of 30 positions are the picture's.
  assert flops[0] < 0.9 * flops[1]


def test_the_picture_depends_on_the_caption_and_the_caption_not_on_the_picture():
  cfg = toy.config(("row",))
  params = toy.weights(cfg)
  text, codes = pairs(cfg)
  own = likelihood.log_likelihoods(params, text, codes, model=cfg)
  other = likelihood.log_likelihoods(params, text, codes[::-1], model=cfg)
  np.testing.assert_allclose(own.text_BT, other.text_BT, rtol=1e-6)
  without = likelihood.image_given_caption(params, likelihood.no_caption(cfg, 3), codes, model=cfg)
  assert np.abs(own.image_BN.sum(1) - without).min() > 0.03


def test_no_caption_is_what_dropped_captions_are_in_training():
  cfg = toy.config(("row",))
  np.testing.assert_array_equal(likelihood.no_caption(cfg, 2), [[17, 18, 19, 20, 21]] * 2)
  assert not likelihood.present(cfg, likelihood.no_caption(cfg, 2)).any()
  np.testing.assert_array_equal(likelihood.present(cfg, toy.captions(1)), [[True] * 3 + [False] * 2])


def test_bayes_rule_gives_what_the_joint_table_gives():
  joint_PC = np.random.default_rng(0).dirichlet(np.ones(12)).reshape(3, 4)
  prior_C = joint_PC.sum(0)
  got = likelihood.caption_given_image(jnp.log(joint_PC / prior_C[None]), jnp.log(prior_C))
  np.testing.assert_allclose(np.exp(got), joint_PC / joint_PC.sum(1, keepdims=True), rtol=1e-5)
  alike = likelihood.caption_given_image(jnp.log(joint_PC / prior_C[None]))
  np.testing.assert_allclose(np.exp(alike).sum(1), 1, rtol=1e-5)
  assert np.abs(alike - got).max() > 0.1


@pytest.mark.parametrize(
  ("classes", "positions", "most", "parts"), [(24, 10, 240, 1), (24, 10, 239, 2), (24, 10, 60, 4), (7, 10, 60, 7)]
)
def test_the_classes_are_taken_in_the_fewest_parts_that_fit(classes, positions, most, parts):
  assert likelihood.vocab_parts(classes, positions, most) == parts


def test_on_a_mesh_it_is_the_same():
  cfg = toy.config(("row", "column"))
  params = toy.weights(cfg)
  text, codes = pairs(cfg, 4)
  mesh = sharding.make_mesh(MeshShape(data=2, model=2), jax.devices()[:4])
  got = likelihood.log_likelihoods(params, text, codes, model=cfg, mesh=mesh, rules=Rules())
  for ours, wanted in zip(got, likelihood.log_likelihoods(params, text, codes, model=cfg), strict=True):
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)
