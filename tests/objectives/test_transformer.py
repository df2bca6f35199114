"""The transformer's objective: both losses worked out by hand, pads counted or left out, pixels in place of codes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import dvae, transformer
from dalle_jax.objectives.dvae import DvaeElbo
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.schedules import Constant

TINY = transformer.Config(
  text_vocab=11,
  text=5,
  image_vocab=7,
  grid=4,
  layers=2,
  heads=2,
  head_dim=4,
  mix=("row", "column"),
  last=None,
  kernel=3,
)
DVAE = dvae.Config(image=8, vocab=7, hidden=16, groups=2, blocks=1, code_dim=4)
NLL = TransformerNll(model=TINY)
KEY, STEP = jax.random.key(0), jnp.int32(0)
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


def drawn(init, seed):
  rng, shapes = np.random.default_rng(seed), sharding.unbox(jax.eval_shape(init, KEY))
  return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


@functools.cache
def params():
  return drawn(NLL.init, 1)


def batch(lengths=(2, 4, 0)):
  """Captions of these lengths, and codes."""
  rng = np.random.default_rng(0)
  text = rng.integers(0, 11, (len(lengths), 5))
  for row, length in zip(text, lengths):
    row[length:] = 11 + np.arange(length, 5)
  codes = rng.integers(0, 7, (len(lengths), 16))
  return {"text": jnp.asarray(text, jnp.int32), "codes": jnp.asarray(codes, jnp.int32)}


@functools.cache
def jitted(objective):
  return jax.jit(lambda p, frozen, batch: objective.loss(p, frozen, batch, KEY, STEP), compiler_options=QUICK)


def loss(objective=NLL, frozen=None, **changes):
  value, metrics = jitted(objective)(params(), frozen or {}, batch() | changes)
  return float(value), {name: float(x) for name, x in metrics.items()}


def by_hand(data):
  """-ln p of every text and image token, in float64, from the model's logits."""
  apply = lambda p, *tokens: transformer.Transformer(TINY).apply({"params": p}, *tokens)  # noqa: E731
  logits = jax.jit(apply, compiler_options=QUICK)(params(), data["text"], data["codes"])

  def picked(scores, targets):
    scores = np.asarray(scores, np.float64)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, np.asarray(targets)[..., None], -1))[..., 0]

  return picked(logits.text_BTV, data["text"]), picked(logits.image_BNV, data["codes"])


def test_the_loss_is_an_eighth_of_the_text_s_and_seven_of_the_image_s():
  text_BT, image_BN = by_hand(batch())
  value, metrics = loss()
  assert abs(text_BT.mean() - image_BN.mean()) > 0.1
  assert metrics["loss_text"] == pytest.approx(text_BT.mean(), rel=1e-5)
  assert metrics["loss_image"] == pytest.approx(image_BN.mean(), rel=1e-5)
  assert value == pytest.approx(text_BT.mean() / 8 + 7 * image_BN.mean() / 8, rel=1e-5)
  assert metrics["loss"] == value


def test_the_text_s_loss_is_reported_with_and_without_pads_whichever_is_trained():
  text_BT, image_BN = by_hand(batch())
  present_BT = np.asarray(batch()["text"]) < 11
  assert present_BT.sum() == 6
  words = text_BT[present_BT].mean()
  assert abs(words - text_BT.mean()) > 0.01
  without = dataclasses.replace(NLL, pad_targets=False)
  for _, metrics in (loss(), loss(without)):
    assert metrics["loss_text"] == pytest.approx(text_BT.mean(), rel=1e-5)
    assert metrics["loss_text_no_pads"] == pytest.approx(words, rel=1e-5)
  assert loss(without)[0] == pytest.approx(words / 8 + 7 * image_BN.mean() / 8, rel=1e-5)
  assert loss()[0] != pytest.approx(loss(without)[0], rel=1e-3)


def head_gradient(objective):
  gradient = jax.jit(jax.grad(lambda p: objective.loss(p, {}, batch(), KEY, STEP)[0]), compiler_options=QUICK)(params())
  return np.abs(gradient["text_head"]["kernel"]), np.abs(gradient["image_head"]["kernel"])


def test_pads_that_are_no_targets_are_still_seen_by_what_follows():
  objective = dataclasses.replace(NLL, pad_targets=False)
  changed = batch()["text"].at[2, 1].set(11)  # another pad, of a caption without words
  assert loss(objective, text=changed)[1]["loss_text_no_pads"] == pytest.approx(
    loss(objective)[1]["loss_text_no_pads"], rel=1e-6
  )
  assert loss(objective, text=changed)[1]["loss_image"] != pytest.approx(loss(objective)[1]["loss_image"], rel=1e-5)


def test_a_batch_without_a_word_has_a_text_loss_of_zero_and_not_of_nan():
  objective = dataclasses.replace(NLL, pad_targets=False)
  value, metrics = loss(objective, **batch((0, 0, 0)))
  assert metrics["loss_text_no_pads"] == 0
  assert value == pytest.approx(7 / 8 * metrics["loss_image"], rel=1e-6)


@pytest.mark.parametrize(("text_weight", "image_weight"), [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_other_weights_weigh_otherwise_and_a_weight_of_zero_trains_nothing(text_weight, image_weight):
  objective = dataclasses.replace(NLL, text_weight=text_weight, image_weight=image_weight)
  value, metrics = loss(objective)
  assert value == pytest.approx(text_weight * metrics["loss_text"] + image_weight * metrics["loss_image"], rel=1e-5)
  text, image = head_gradient(objective)
  assert (text.max() > 0, image.max() > 0) == (text_weight > 0, image_weight > 0)


def test_a_negative_weight_is_refused():
  with pytest.raises(UserError, match=r"-0\.1 and 0\.875: neither may be negative"):
    TransformerNll(model=TINY, text_weight=-0.1)


@functools.cache
def frozen():
  return {"dvae": drawn(DvaeElbo(model=DVAE, kl=Constant(0.0), temperature=Constant(1.0)).init, 2)}


def pictures():
  """Patches of strong colours, one a code."""
  colours = 255 * np.random.default_rng(3).integers(0, 2, (3, 4, 4, 3))
  return jnp.asarray(colours.repeat(2, axis=1).repeat(2, axis=2), jnp.uint8)


def test_pixels_and_the_codes_they_encode_to_give_the_same_loss():
  images = pictures()
  codes_Bhw = dvae.encode_images(frozen()["dvae"], DVAE, images)
  assert len(np.unique(codes_Bhw)) > 2
  by_codes = loss(codes=codes_Bhw.reshape(3, -1))
  pixels = dataclasses.replace(NLL, dvae=DVAE)
  by_pixels, metrics = jitted(pixels)(params(), frozen(), {"text": batch()["text"], "image": images})
  assert float(by_pixels) == by_codes[0]
  assert {name: float(x) for name, x in metrics.items()} == by_codes[1]
  other, _ = jitted(pixels)(params(), frozen(), {"text": batch()["text"], "image": 255 - images})
  assert float(other) != by_codes[0]


def test_the_frozen_dvae_gets_no_gradient():
  images = pictures()
  pixels = dataclasses.replace(NLL, dvae=DVAE)
  data = {"text": batch()["text"], "image": images}
  gradient = jax.jit(jax.grad(lambda f: pixels.loss(params(), f, data, KEY, STEP)[0]), compiler_options=QUICK)(frozen())
  assert all((x == 0).all() for x in jax.tree.leaves(gradient))


def test_codes_may_be_stored_small():
  assert loss(codes=batch()["codes"].astype(jnp.uint16)) == loss()


def test_the_loss_at_the_start_is_that_of_guessing():
  start = jax.jit(lambda key: sharding.unbox(NLL.init(key)), compiler_options=QUICK)(KEY)
  _, metrics = jitted(NLL)(start, {}, batch())
  assert float(metrics["loss_text"]) == pytest.approx(np.log(11 + 5), rel=1e-5)
  assert float(metrics["loss_image"]) == pytest.approx(np.log(7), rel=1e-5)


def test_parts_of_the_classes_give_the_same_loss_and_gradient():
  model = dataclasses.replace(TINY, text_vocab=13, image_vocab=6)  # 18 and 6 classes
  whole, parts = (TransformerNll(model=model, vocab_parts=n) for n in (1, 3))
  data = batch() | {"codes": batch()["codes"] % 6}
  both = [
    jax.jit(jax.value_and_grad(lambda p, o=o: o.loss(p, {}, data, KEY, STEP)[0]))(drawn(whole.init, 1))
    for o in (whole, parts)
  ]
  assert both[0][0] == pytest.approx(float(both[1][0]), rel=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5), both[0][1], both[1][1])


@pytest.mark.parametrize("parts", [0, 2, 3])
def test_parts_that_do_not_divide_the_classes_are_refused(parts):
  with pytest.raises(UserError, match=f"vocab_parts is {parts}: a number is wanted that divides the (16|7) classes of"):
    dataclasses.replace(NLL, vocab_parts=parts)
