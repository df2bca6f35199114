"""Figures of what a run draws: against drawing, reading and CLIP done again by hand, with random weights."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from dalle_jax import evaluate
from dalle_jax.ablations import drawing, metrics, sampled
from dalle_jax.ablations.drawing import Drawing
from dalle_jax.data import captioned_scenes, judge
from dalle_jax.data.prepare import prepare
from dalle_jax.data.prepared import open_prepared
from dalle_jax.data.scenes_source import Scenes
from dalle_jax.errors import UserError
from dalle_jax.evaluation import examples
from dalle_jax.sampling import likelihood
from dalle_jax.sampling.choose import SamplingConfig

SIZES = {"train": 8, "valid": 2, "test": 12, "test_pairs": 2, "image": 16}
HOW = Drawing(captions=3, samples=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  place = tmp_path_factory.mktemp("sampled")
  prepare(Scenes(captioned_scenes.Config(**SIZES)), place / "data")
  source = open_prepared(place / "data").source("train")
  whole = dataclasses.replace(tiny_run.experiment(), data=str(place / "data"))
  return tiny_run.workdir(place / "run", [text for each in source.captions() for text in each], whole)


def by_hand(run, how, seed=0):
  """The pictures of the first captions, what is right in them, and their cosines."""
  drawer, words = evaluate.drawer(run), run.tokenizer()
  asked = examples.first(open_prepared(run.experiment().data), "test", 3, size=16, words=words)
  found = list(drawer.draw(asked.text_NT, num=how.samples, seed=seed, sampling=how.sampling))
  images = [each.images_KHWC[np.argsort(each.kept_K)] for each in found]
  right = [[v.all_right for v in judge.judge(own, [c] * how.samples)] for own, c in zip(images, asked.claims)]
  return images, np.array(right), np.stack([each.scores_N for each in found])


def shares_by_hand(run, images):
  """Of the aspects that each caption speaks of, the share that is right in each picture."""
  asked = examples.first(open_prepared(run.experiment().data), "test", 3, size=16, words=run.tokenizer())
  shares = []
  for own, claims in zip(images, asked.claims):
    spoken = ["count", "shape", "colour"]
    spoken += [name for name in ("size", "texture") if any(getattr(each, name) for each in claims.objects)]
    spoken += ["relation"] * bool(claims.relations) + ["background"] * (claims.background is not None)
    verdicts = judge.judge(own, [claims] * len(own))
    shares.append([np.mean([getattr(verdict, name) for name in spoken]) for verdict in verdicts])
  return np.array(shares)


def measured(metric, run, how, seed=0):
  return metric(smallest=0.1).measure(run, how, seed)


@pytest.mark.slow
def test_pictures_verdicts_and_cosines_are_those_of_drawing_and_judging(run):
  images, right, scores = by_hand(run, HOW)
  found = drawing.drawn(run.path, 1, 0, HOW)
  np.testing.assert_array_equal(found.images_CSHWC, images)
  np.testing.assert_array_equal(found.right_CS, right)
  np.testing.assert_allclose(found.cosines(), scores, atol=1e-5)
  assert measured(sampled.composition, run, HOW) == pytest.approx(right.mean())
  shares = shares_by_hand(run, images)
  assert 0 < shares.mean() < 1
  np.testing.assert_allclose(found.share_CS, shares)
  assert measured(sampled.aspects, run, HOW) == pytest.approx(shares.mean())
  assert measured(sampled.clip_score, run, HOW) == pytest.approx(np.maximum(100 * scores.mean(), 0), rel=1e-3)


@pytest.mark.slow
def test_the_best_of_n_rises_with_n_and_is_the_best_of_all_at_last(run):
  _, _, scores = by_hand(run, HOW)
  found = [measured(sampled.clip_score, run, dataclasses.replace(HOW, best_of=n)) for n in (1, 2, 4)]
  assert found == sorted(found)
  assert found[2] > found[0]
  assert found[2] == pytest.approx(max(100 * scores.max(axis=1).mean(), 0), rel=1e-3)


@pytest.mark.slow
def test_settings_that_draw_alike_share_one_draw(run):
  drawing.drawn.cache_clear()
  for metric, change in (
    (sampled.composition, {}),
    (sampled.clip_score, {"best_of": 2}),
    (sampled.fd_clip, {"blur": 1.0}),
  ):
    measured(metric, run, dataclasses.replace(HOW, **change))
  assert drawing.drawn.cache_info().misses == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"sampling": SamplingConfig(temperature=3.0)}, {"shuffled": True}])
def test_each_setting_draws_other_pictures(run, change):
  first = drawing.drawn(run.path, 1, 0, HOW).images_CSHWC
  other = drawing.drawn(run.path, 1, 0, dataclasses.replace(HOW, **change)).images_CSHWC
  assert (first != other).any()


@pytest.mark.slow
def test_another_seed_draws_other_pictures(run):
  assert (drawing.drawn(run.path, 1, 0, HOW).images_CSHWC != drawing.drawn(run.path, 1, 1, HOW).images_CSHWC).any()


@pytest.mark.slow
def test_the_distance_is_that_of_blurred_pictures_to_all_real_ones(run):
  sharp, soft = (measured(sampled.fd_clip, run, dataclasses.replace(HOW, blur=radius)) for radius in (0.0, 16.0))
  assert 0 <= soft != sharp
  again = measured(sampled.fd_clip, run, HOW)
  assert again == sharp
  with pytest.raises(UserError, match="best of 2 would be of fewer pictures"):
    measured(sampled.fd_clip, run, dataclasses.replace(HOW, best_of=2))


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", None])
def test_the_image_loss_is_that_of_the_split_asked_for(run, split):
  drawer, prepared = evaluate.drawer(run), open_prepared(run.experiment().data)
  held = examples.first(prepared, split or "test", 8, size=16, words=run.tokenizer())
  codes_BN = drawer.encode(held.images_NHWC).reshape(8, -1)
  text_BT, codes_BN = jnp.asarray(held.text_NT), jnp.asarray(codes_BN)
  nats_BN = likelihood.log_likelihoods(drawer.transformer_params, text_BT, codes_BN, model=drawer.transformer).image_BN
  found = metrics.image_loss(smallest=0.1, split=split).measure(run, None, 0)
  assert found == pytest.approx(-float(nats_BN.mean()), rel=1e-4)


def test_what_is_said_again_is_the_caption_and_the_other_one(run):
  asked = drawing.held_out(run, 2)
  said = drawing.told(run, asked, Drawing(repeat=2, reworded=True))
  captions = open_prepared(run.experiment().data).source("test")[0]["captions"]
  assert said[0] == f"{captions[0]}. {captions[0]}. {captions[1]}"


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"best_of": 9}, {"blur": -1.0}, {"repeat": 0}])
def test_a_setting_that_draws_nothing_is_refused(wrong):
  with pytest.raises(UserError, match="wanted 1 or more"):
    Drawing(**wrong)
