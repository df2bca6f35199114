"""CLIP's objective: the symmetric loss against NumPy, negatives, and a batch spread over devices that stays one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import clip, dvae
from dalle_jax.objectives.clip import ClipContrastive, cross_entropy_of_diagonal, diagonal_wins
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.schedules import Constant

TINY = clip.Config(
  image=8,
  patch=4,
  text_vocab=9,
  text=4,
  embed=6,
  vision_layers=1,
  vision_width=8,
  vision_heads=2,
  text_layers=1,
  text_width=8,
  text_heads=2,
)
CONTRAST = ClipContrastive(model=TINY)
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def params():
  rng = np.random.default_rng(1)
  shapes = sharding.unbox(jax.eval_shape(CONTRAST.init, jax.random.key(0)))
  tree = jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), shapes)
  return tree | {"logit_scale": jnp.float32(2.5)}


def images(count, seed):
  return jnp.asarray(np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3)), jnp.uint8)


def texts(count, seed):
  ids = np.random.default_rng(seed).integers(0, 9, (count, 4))
  ids[:, -1] = 9 + 3
  return jnp.asarray(ids, jnp.int32)


BATCH = {"image": images(5, 0), "text": texts(5, 1)}


@functools.cache
def jitted(objective):
  return jax.jit(lambda p, f, b, key: objective.loss(p, f, b, key, jnp.int32(0)), compiler_options=QUICK)


def loss(batch, objective=CONTRAST, frozen=None, seed=0):
  value, metrics = jitted(objective)(params(), frozen or {}, batch, jax.random.key(seed))
  return float(value), {name: float(x) for name, x in metrics.items()}


def vectors(method, inputs):
  encode = jax.jit(lambda p, x: clip.Clip(TINY).apply({"params": p}, x, method=method), compiler_options=QUICK)
  return np.asarray(encode(params(), inputs), np.float64)


def cross_entropy(logits):
  """Row by row, the right column being the row's own."""
  rows = []
  for i, row in enumerate(logits):
    p = np.exp(row - row.max())
    rows.append(-np.log(p[i] / p.sum()))
  return np.mean(rows)


def by_hand(batch):
  image = vectors("encode_image", batch["image"].astype(jnp.float32) / 255)
  text = vectors("encode_text", batch["text"])
  scale = np.exp(float(params()["logit_scale"]))
  more_texts = vectors("encode_text", batch["negative_text"].reshape(-1, 4)) if "negative_text" in batch else text[:0]
  return scale * image @ np.concatenate([text, more_texts]).T, scale * text @ image.T


@pytest.mark.parametrize("negatives", [0, 2])
def test_the_loss_is_the_mean_of_both_directions_worked_out_in_numpy(negatives):
  batch = BATCH | ({"negative_text": texts(5 * negatives, 3).reshape(5, negatives, 4)} if negatives else {})
  to_text, to_image = by_hand(batch)
  assert to_text.shape == (5, 5 + 5 * negatives)
  assert to_image.shape == (5, 5)
  value, metrics = loss(batch)
  assert abs(cross_entropy(to_text) - cross_entropy(to_image)) > 1e-3
  assert metrics["loss_to_text"] == pytest.approx(cross_entropy(to_text), rel=1e-4)
  assert metrics["loss_to_image"] == pytest.approx(cross_entropy(to_image), rel=1e-4)
  assert value == pytest.approx((cross_entropy(to_text) + cross_entropy(to_image)) / 2, rel=1e-4)
  assert metrics["accuracy_to_text"] == pytest.approx(np.mean(to_text.argmax(1) == np.arange(5)))
  assert metrics["accuracy_to_image"] == pytest.approx(np.mean(to_image.argmax(1) == np.arange(5)))
  assert metrics["scale"] == pytest.approx(np.exp(float(params()["logit_scale"])), rel=1e-5)


def test_negative_captions_only_make_their_own_direction_harder():
  _, plain = loss(BATCH)
  _, captions = loss(BATCH | {"negative_text": texts(5, 3)[:, None]})
  assert captions["loss_to_text"] > plain["loss_to_text"] + 1e-3
  assert captions["loss_to_image"] == pytest.approx(plain["loss_to_image"], rel=1e-5)


def test_pairs_may_stand_in_any_order():
  order = np.array([3, 0, 4, 1, 2])
  value, _ = loss({name: x[order] for name, x in BATCH.items()})
  assert value == pytest.approx(loss(BATCH)[0], rel=1e-5)
  wrong, _ = loss({"image": BATCH["image"], "text": BATCH["text"][order]})
  assert wrong != pytest.approx(loss(BATCH)[0], rel=1e-3)


DVAE = dvae.Config(image=8, vocab=7, hidden=8, groups=2, blocks=1, code_dim=4)


@functools.cache
def frozen():
  elbo = DvaeElbo(model=DVAE, kl=Constant(0.0), temperature=Constant(1.0))
  shapes = sharding.unbox(jax.eval_shape(elbo.init, jax.random.key(0)))
  rng = np.random.default_rng(2)
  return {"dvae": jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), shapes)}


def coded(count=5):
  codes = np.random.default_rng(6).integers(0, 7, (count, 16))
  return {"codes": jnp.asarray(codes, jnp.uint16), "text": texts(count, 1)}


def test_codes_stand_for_the_pictures_that_the_frozen_dvae_decodes_them_to():
  batch = coded()
  decoded = dvae.decode_images(frozen()["dvae"], DVAE, batch["codes"].astype(jnp.int32).reshape(5, 4, 4))
  assert len(np.unique(decoded)) > 50
  got, metrics = loss(batch, ClipContrastive(model=TINY, dvae=DVAE), frozen())
  expected, by_pictures = loss({"image": decoded, "text": batch["text"]})
  assert got == pytest.approx(expected, rel=1e-5)
  assert metrics == pytest.approx(by_pictures, rel=1e-4)


def test_spoilt_pictures_are_negatives_that_differ_from_step_to_step():
  plain, spoiling = ClipContrastive(model=TINY), ClipContrastive(model=TINY, spoil_picture=1.0)
  batch = {"image": images(5, 1), "text": texts(5, 2)}
  _, without = loss(batch, plain)
  _, with_spoilt = loss(batch, spoiling)
  assert with_spoilt["loss_to_text"] == pytest.approx(without["loss_to_text"], rel=1e-5)
  assert with_spoilt["loss_to_image"] > without["loss_to_image"] + 0.05
  assert loss(batch, spoiling, seed=1)[1]["loss_to_image"] != with_spoilt["loss_to_image"]
  assert loss(batch, plain, seed=1)[1] == without


def test_a_near_miss_that_missed_nothing_is_no_negative_of_its_caption():
  batch = {"image": images(4, 1), "text": texts(1, 2).repeat(4, axis=0)}  # all captions alike
  _, plain = loss(batch)
  _, missed_nothing = loss(batch | {"negative_text": batch["text"][:, None]})
  other_BT = batch["text"].at[:, 0].set((batch["text"][:, 0] + 1) % 9)
  _, missed = loss(batch | {"negative_text": other_BT[:, None]})
  assert plain["loss_to_text"] == pytest.approx(np.log(4), rel=1e-4)
  assert missed_nothing["loss_to_text"] == pytest.approx(np.log(4), rel=1e-4)
  assert missed["loss_to_text"] > np.log(4) + 0.05


def test_one_that_came_out_unspoilt_is_no_negative_of_itself():
  batch = {"image": images(1, 1).repeat(4, axis=0), "text": texts(4, 2)}  # nothing to take that differs
  _, with_spoilt = loss(batch, ClipContrastive(model=TINY, spoil_picture=1.0))
  _, without = loss(batch, ClipContrastive(model=TINY))
  assert without["loss_to_image"] == pytest.approx(np.log(4), rel=1e-4)
  assert with_spoilt["loss_to_image"] == pytest.approx(np.log(7), rel=1e-4)  # four, and the spoilt ones of three others


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"spoil_picture": 1.5}, "spoil_picture is 1.5"),
    ({"spoil_picture": 0.1, "model": dataclasses.replace(TINY, image=9, patch=3)}, "of which 9 is no multiple"),
    ({"spoil_picture": -0.1}, "spoil_picture is -0.1"),
    ({"dvae": dvae.Config(image=16, groups=2)}, "CLIP reads 8 pixels, the dVAE makes 16"),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line(wrong, message):
  with pytest.raises(UserError, match=message) as caught:
    ClipContrastive(**{"model": TINY} | wrong)
  assert "\n" not in str(caught.value)


def test_the_cross_entropy_of_the_diagonal_by_hand():
  logits = jnp.log(jnp.array([[1.0, 3.0, 4.0], [2.0, 2.0, 4.0]]))
  assert cross_entropy_of_diagonal(logits) == pytest.approx((np.log(8) + np.log(4)) / 2, rel=1e-6)
  assert diagonal_wins(jnp.array([[3.0, 1, 2], [5, 4, 1]])) == 0.5


def test_the_loss_spans_the_whole_batch_wherever_its_parts_lie():
  mesh = sharding.make_mesh(sharding.MeshShape(data=4), jax.devices()[:4])
  batch = {"image": images(8, 4), "text": texts(8, 5)}
  split = {k: jax.device_put(x, sharding.batch_sharding(mesh, sharding.Rules(), x.ndim)) for k, x in batch.items()}
  assert len(split["image"].sharding.device_set) == 4
  assert split["image"].addressable_shards[0].data.shape[0] == 2
  value, _ = loss(split)
  expected, _ = loss(batch)
  assert value == pytest.approx(expected, rel=1e-5)
  parts = [loss({k: x[i : i + 2] for k, x in batch.items()})[0] for i in range(0, 8, 2)]
  assert value > np.mean(parts) + 0.1  # eight candidates are harder than two
