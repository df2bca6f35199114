import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.models import clip, dvae, transformer
from dalle_jax.objectives.clip import ClipContrastive
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.sampling.choose import SamplingConfig
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.rankers import Weighted
from dalle_jax.schedules import Constant

CAPTIONS = np.array([[1, 2, 18], [3, 17, 18], [4, 5, 18]], np.int32)


def weights(init, seed):
  shapes = sharding.unbox(jax.eval_shape(init, jax.random.key(0)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def drawer():
  words = transformer.Config(
    text_vocab=16, text=3, image_vocab=12, grid=2, layers=1, heads=2, head_dim=4, mix=("full",), last=None
  )
  pictures = dvae.Config(image=4, vocab=12, hidden=8, groups=2, blocks=1, code_dim=4)
  scores = clip.Config(
    image=4, patch=2, text_vocab=16, text=3, embed=8, vision_layers=1, vision_width=16, vision_heads=2, text_layers=1,
    text_width=16, text_heads=2,
  )  # fmt: skip
  return Drawer(
    transformer=words,
    transformer_params=weights(TransformerNll(model=words).init, 0),
    dvae=pictures,
    dvae_params=weights(DvaeElbo(model=pictures, kl=Constant(0.0), temperature=Constant(1.0)).init, 1),
    clip=scores,
    clip_params=weights(ClipContrastive(model=scores).init, 2),
    batch=30,
  )


def draw(drawer, **kwargs):
  return list(drawer.draw(CAPTIONS, **({"num": 10, "seed": 7} | kwargs)))


@pytest.fixture(scope="module")
def together(drawer):
  return draw(drawer)


def test_captions_come_in_order_with_their_best_samples_first(drawer, together):
  assert [each.caption for each in together] == [0, 1, 2]
  for each in together:
    assert sorted(each.kept_K) == list(range(10))
    assert (np.diff(each.scores_N[each.kept_K]) <= 0).all()
    np.testing.assert_array_equal(each.images_KHWC, drawer.decode(each.codes_NP[each.kept_K]))


@pytest.mark.parametrize("batch", [pytest.param(20, marks=pytest.mark.slow), 4])
def test_what_is_drawn_does_not_depend_on_the_batch(drawer, together, batch):
  told = []
  got = draw(dataclasses.replace(drawer, batch=batch), keep=3, progress=told.append)
  assert sum(told) == 30
  for each, expected in zip(got, together, strict=True):
    np.testing.assert_array_equal(each.codes_NP, expected.codes_NP)
    np.testing.assert_allclose(each.scores_N, expected.scores_N, atol=1e-6)
    np.testing.assert_array_equal(each.kept_K, expected.kept_K[:3])
    np.testing.assert_array_equal(each.images_KHWC, expected.images_KHWC[:3])


def test_without_clip_samples_stay_in_the_order_they_were_drawn(drawer, together):
  got = draw(dataclasses.replace(drawer, clip=None, clip_params=None, batch=4), keep=5)
  for each, expected in zip(got, together, strict=True):
    assert each.scores_N is None
    np.testing.assert_array_equal(each.kept_K, np.arange(5))
    np.testing.assert_array_equal(each.codes_NP, expected.codes_NP)
    assert len(each.images_KHWC) == 5


def test_the_temperature_reaches_the_tokens(drawer):
  likely = draw(drawer, sampling=SamplingConfig(temperature=0.0))
  assert all((each.codes_NP == each.codes_NP[0]).all() for each in likely)


@pytest.mark.parametrize(
  ("num", "batch"), [pytest.param(10, 30, marks=pytest.mark.slow), (10, 4), pytest.param(8, 8, marks=pytest.mark.slow)]
)
def test_a_mesh_draws_what_one_device_draws(drawer, num, batch):
  mesh, rules = sharding.make_mesh(sharding.MeshShape(data=4, fsdp=2)), sharding.Rules()
  boxed = jax.eval_shape(TransformerNll(model=drawer.transformer).init, jax.random.key(0))
  params = jax.device_put(drawer.transformer_params, sharding.shardings(boxed, mesh, rules))
  over = dataclasses.replace(drawer, mesh=mesh, rules=rules, transformer_params=params, batch=batch)
  got, expected = draw(over, num=num, keep=2), draw(dataclasses.replace(drawer, batch=batch), num=num, keep=2)
  for each, one in zip(got, expected, strict=True):
    np.testing.assert_array_equal(each.codes_NP, one.codes_NP)
    np.testing.assert_allclose(each.scores_N, one.scores_N, atol=1e-5)
    np.testing.assert_array_equal(each.images_KHWC, one.images_KHWC)


def test_a_mix_of_rankers_is_of_all_samples_whatever_the_batch(drawer):
  chosen = {**drawer.rankers(), "likelihood": Weighted(ranker=drawer.own()["likelihood"], weight=0.5)}
  whole, parts = (draw(dataclasses.replace(drawer, batch=n), rankers=chosen, keep=3) for n in (30, 4))
  for each, other in zip(whole, parts, strict=True):
    np.testing.assert_allclose(each.scores_N, other.scores_N, atol=1e-4)
    clip_N, own_N = each.by_ranker["clip"], each.by_ranker["likelihood"]
    expected = (clip_N - clip_N.mean()) / clip_N.std() + 0.5 * (own_N - own_N.mean()) / own_N.std()
    np.testing.assert_allclose(each.scores_N, expected, atol=1e-4)
    np.testing.assert_array_equal(each.kept_K, np.argsort(-each.scores_N)[:3])


def test_a_captions_number_and_not_its_place_says_what_is_drawn_of_it(drawer, together):
  some = list(drawer.draw(CAPTIONS[1:], numbers_C=np.array([1, 2]), num=10, seed=7))
  for own, whole in zip(some, together[1:], strict=True):
    np.testing.assert_array_equal(own.codes_NP, whole.codes_NP)
  others = list(drawer.draw(CAPTIONS[1:], num=10, seed=7))
  assert any((own.codes_NP != whole.codes_NP).any() for own, whole in zip(others, together[1:]))
