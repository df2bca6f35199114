"""CLIP: sizes and start as published, unit vectors, what a caption's vector depends on, the clipped temperature."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import clip
from dalle_jax.objectives.clip import ClipContrastive

TINY = clip.Config(
  image=16,
  patch=8,
  text_vocab=12,
  text=6,
  embed=5,
  vision_layers=2,
  vision_width=8,
  vision_heads=2,
  text_layers=2,
  text_width=12,
  text_heads=3,
)
# These programs run for less time than they take to compile.
QUICK = {"xla_backend_optimization_level": 0}


def shapes(cfg):
  return sharding.unbox(jax.eval_shape(ClipContrastive(model=cfg).init, jax.random.key(0)))


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@functools.cache
def drawn(cfg):
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), shapes(cfg))


def pictures(count=3, seed=0, side=16):
  return jnp.asarray(np.random.default_rng(seed).uniform(size=(count, side, side, 3)), jnp.float32)


def captions(*lengths, cfg=TINY):
  """Words up to each length, then the pads of the positions that are left."""
  text = np.random.default_rng(0).integers(0, cfg.text_vocab, (len(lengths), cfg.text))
  for row, length in zip(text, lengths):
    row[length:] = cfg.text_vocab + np.arange(length, cfg.text)
  return jnp.asarray(text, jnp.int32)


@functools.cache
def method(name, cfg=TINY):
  return jax.jit(lambda p, *a: clip.Clip(cfg).apply({"params": p}, *a, method=name), compiler_options=QUICK)


def block_count(d):
  # Queries, keys, values; out; the MLP up and down; two norms.
  return 3 * d * d + 3 * d + d * d + d + 4 * d * d + 4 * d + 4 * d * d + d + 4 * d


@pytest.mark.parametrize("scan", [True, False])
def test_the_towers_of_vit_b_32_have_the_published_sizes(scan):
  # The released text tower: 49,408 tokens, 77 positions. Here the last `text` of the classes are pads.
  cfg = clip.Config(text_vocab=49_408 - 77, text=77, scan=scan)
  params = shapes(cfg)
  d, patches = 768, (224 // 32) ** 2
  vision = 32 * 32 * 3 * d + d + (patches + 1) * d + 2 * d + 12 * block_count(d) + 2 * d + d * 512
  assert count(params["vision"]) == vision == 87_849_216  # as torch counts model.visual of the released ViT-B/32
  d = 512
  text = 49_408 * d + 77 * d + 12 * block_count(d) + 2 * d + d * 512
  assert count(params["text"]) == text == 63_428_096
  assert count(params) == 151_277_313  # with the temperature: the released ViT-B/32
  assert params["vision"]["patch"]["kernel"].shape == (32 * 32 * 3, 768)
  assert params["vision"]["position"]["embedding"].shape == (50, 768)


def test_weights_start_as_published():
  cfg = dataclasses.replace(TINY, vision_width=64, text_width=96, embed=64, text_vocab=300, text=60)
  start = jax.jit(lambda key: sharding.unbox(ClipContrastive(model=cfg).init(key)), compiler_options=QUICK)
  params = start(jax.random.key(0))
  assert params["logit_scale"] == pytest.approx(2.659, abs=1e-3)
  for tower, d in (("vision", 64), ("text", 96)):
    wanted = {
      "qkv/kernel": d**-0.5,
      "out/kernel": d**-0.5 * (2 * 2) ** -0.5,
      "up/kernel": (2 * d) ** -0.5,
      "down/kernel": d**-0.5 * (2 * 2) ** -0.5,
      "head/kernel": d**-0.5,
      "token/embedding": 0.02,
      "position/embedding": 0.01 if tower == "text" else d**-0.5,
      "class_token/embedding": d**-0.5,
      "patch/kernel": (8 * 8 * 3) ** -0.5,
    }
    for path, x in jax.tree_util.tree_leaves_with_path(params[tower]):
      name = sharding.path_name(path[-2:])
      if name in wanted:
        assert np.std(x) == pytest.approx(wanted[name], rel=0.01 + 4 / math.sqrt(2 * x.size)), sharding.path_name(path)
      else:
        assert (x == (path[-1].key == "scale")).all(), sharding.path_name(path)


def test_vectors_have_length_one_and_differ():
  for got in (method("encode_image")(drawn(TINY), pictures()), method("encode_text")(drawn(TINY), captions(1, 3, 5))):
    assert got.shape == (3, 5)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1, rtol=1e-6)
    assert np.abs(got[0] - got[1]).max() > 1e-3


def norm_np(x, params):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  return x * params["scale"] + params["bias"]


def tower_np(x, params, heads, causal):
  """The blocks one by one, head by head; x: [L, D]."""
  length, d = x.shape
  k = d // heads
  for i in range(2):
    p = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i], np.float64), params)
    qkv_nLE = norm_np(x, p["norm_1"]) @ p["qkv"]["kernel"] + p["qkv"]["bias"][:, None]
    qkv = qkv_nLE.reshape(3, length, heads, k).swapaxes(1, 2)
    outs = []
    for q, key, v in zip(*qkv):
      s = q @ key.T / np.sqrt(k)
      s = np.where(np.tri(length, dtype=bool) | (not causal), s, -np.inf)
      w = np.exp(s - s.max(-1, keepdims=True))
      outs.append(w / w.sum(-1, keepdims=True) @ v)
    x = x + np.concatenate(outs, axis=1) @ p["out"]["kernel"] + p["out"]["bias"]
    h = norm_np(x, p["norm_2"]) @ p["mlp"]["up"]["kernel"] + p["mlp"]["up"]["bias"]
    x = x + (h / (1 + np.exp(-1.702 * h))) @ p["mlp"]["down"]["kernel"] + p["mlp"]["down"]["bias"]
  return x


def test_a_picture_s_vector_is_the_one_worked_out_in_numpy():
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), drawn(TINY)["vision"])
  image = np.asarray(pictures(1)[0], np.float64)
  mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
  image = (image - mean) / std
  patches = [image[r : r + 8, c : c + 8].reshape(-1) for r in (0, 8) for c in (0, 8)]
  x = np.stack([params["class_token"]["embedding"][0], *(np.stack(patches) @ params["patch"]["kernel"])])
  x = norm_np(x + params["position"]["embedding"], params["norm_in"])
  x = tower_np(x, params["tower"]["blocks"], heads=2, causal=False)
  expected = norm_np(x[0], params["norm_out"]) @ params["head"]["kernel"]
  got = method("encode_image")(drawn(TINY), pictures(1))[0]
  np.testing.assert_allclose(got, expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [0, 2, 5])
def test_a_caption_s_vector_is_the_one_worked_out_in_numpy(length):
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), drawn(TINY)["text"])
  text = captions(length)
  x = params["token"]["embedding"][np.asarray(text[0])] + params["position"]["embedding"]
  x = tower_np(x, params["tower"]["blocks"], heads=3, causal=True)
  expected = norm_np(x[length], params["norm_out"]) @ params["head"]["kernel"]
  got = method("encode_text")(drawn(TINY), text)[0]
  np.testing.assert_allclose(got, expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-5)


def test_a_caption_s_vector_depends_on_its_words_and_first_pad_and_on_nothing_after():
  text = captions(3)
  encode = functools.partial(method("encode_text"), drawn(TINY))
  base = encode(text)
  for i in range(TINY.text):
    changed = text.at[0, i].set((text[0, i] + 1) % TINY.text_vocab if i < 3 else TINY.text_vocab)
    assert (changed != text).any()
    assert (encode(changed) != base).any() == (i <= 3), i


def test_every_patch_counts():
  base = method("encode_image")(drawn(TINY), pictures(1))
  for r in (0, 8):
    for c in (0, 8):
      changed = pictures(1).at[0, r + 3, c + 5, 1].add(0.5)
      assert np.abs(method("encode_image")(drawn(TINY), changed) - base).max() > 1e-5


@pytest.mark.slow
def test_a_loop_over_blocks_and_recomputing_them_change_no_number():
  params = drawn(TINY)
  flat = jax.tree.map(lambda x: x, params)
  for tower in ("vision", "text"):
    stacked = flat[tower]["tower"].pop("blocks")
    flat[tower]["tower"] = {f"block_{i}": jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(2)}
  batch = {"image": jnp.asarray(pictures() * 255, jnp.uint8), "text": captions(1, 3, 5)}

  def grads(params, **changes):
    objective = ClipContrastive(model=dataclasses.replace(TINY, **changes))
    loss = lambda p: objective.loss(p, {}, batch, jax.random.key(0), jnp.int32(0))[0]  # noqa: E731
    function = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)
    return str(function.trace(params).jaxpr), jax.device_get(function(params))

  looped, (loss, gradient) = grads(params)
  unrolled, (flat_loss, flat_gradient) = grads(flat, scan=False)
  recomputed, (again_loss, again_gradient) = grads(params, remat=True)
  assert ("scan[" in looped, "scan[" in unrolled) == (True, False)
  assert ("remat" in looped, "remat" in recomputed) == (False, True)
  assert flat_loss == pytest.approx(loss, rel=1e-5)
  assert again_loss == pytest.approx(loss, rel=1e-5)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, again_gradient, gradient)
  stacked = gradient["text"]["tower"]["blocks"]
  for i in range(2):
    jax.tree.map(lambda a, b, i=i: close(a, b[i]), flat_gradient["text"]["tower"][f"block_{i}"], stacked)


def test_bfloat16_keeps_vectors_in_float32():
  half = dataclasses.replace(TINY, dtype="bfloat16")
  got, exact = (method("encode_image", cfg)(drawn(TINY), pictures()) for cfg in (half, TINY))
  assert got.dtype == jnp.float32
  assert 1e-5 < np.abs(got - exact).max() < 0.1


def scale_and_slope(logit_scale, slope=1.0):
  """The scale, and the gradient of slope * scale for the parameter."""
  scale = lambda s: clip.Clip(TINY).apply({"params": drawn(TINY) | {"logit_scale": s}}, method="scale")  # noqa: E731
  value, backwards = jax.vjp(scale, jnp.float32(logit_scale))
  return float(value), float(backwards(jnp.float32(slope))[0])


def test_the_temperature_is_clipped_at_100():
  assert scale_and_slope(2.0)[0] == pytest.approx(math.exp(2), rel=1e-6)
  assert scale_and_slope(math.log(100) - 1e-3)[0] == pytest.approx(100 * math.exp(-1e-3), rel=1e-5)
  assert scale_and_slope(7.0)[0] == pytest.approx(100, rel=1e-5)


def test_above_the_limit_the_temperature_s_gradient_points_back_only():
  below = math.exp(2)
  assert scale_and_slope(2.0, 1.0)[1] == pytest.approx(below, rel=1e-5)
  assert scale_and_slope(2.0, -1.0)[1] == pytest.approx(-below, rel=1e-5)
  # A descent step is against the gradient: a positive one, which lowers the scale, stays; a negative one is cut.
  assert scale_and_slope(7.0, 1.0)[1] == pytest.approx(100, rel=1e-5)
  assert scale_and_slope(7.0, -1.0)[1] == 0


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"image": 30}, "30 pixels into patches of 8"),
    ({"vision_heads": 3}, "vision_width 8 does not divide into 3 heads"),
    ({"text_heads": 5}, "text_width 12 does not divide into 5 heads"),
    ({"embed": 0}, "embed is 0"),
    ({"dtype": "float16"}, "dtype is 'float16'"),
  ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(wrong, message):
  with pytest.raises(UserError, match=message) as caught:
    dataclasses.replace(TINY, **wrong)
  assert "\n" not in str(caught.value)
