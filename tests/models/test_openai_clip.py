import re

import clip_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle_jax.convert import clip
from dalle_jax.models import openai_clip

RESNET = {**clip_arrays.OPEN_CLIP, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}}


def network(tower="vit", seed=0):
  vision = clip_arrays.openai_vit() if tower == "vit" else clip_arrays.openai_resnet()
  arrays = clip_arrays.drawn({**vision, **clip_arrays.openai_text()}, seed)
  return clip.read(arrays, clip_arrays.OPEN_CLIP if tower == "vit" else RESNET)


def ids(rows):
  found = np.zeros((len(rows), clip_arrays.LENGTH), np.int32)
  for row, words in zip(found, rows):
    row[: len(words) + 1] = [*words, clip_arrays.VOCAB - 1]
  return found


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_every_product_is_asked_for_at_the_highest_precision(tower):
  cfg, params = network(tower)
  side = cfg.vision.image
  pixels = jnp.zeros((2, side, side, 3))
  for lowered in (
    openai_clip.encode_images.lower(params, cfg, pixels).as_text(),
    openai_clip.encode_texts.lower(params, cfg, jnp.zeros((2, 9), jnp.int32)).as_text(),
  ):
    products = [line for line in lowered.split("\n") if re.search(r"stablehlo\.(dot_general|convolution)", line)]
    assert products
    assert [line for line in products if "HIGHEST" not in line] == []


def test_what_stands_after_the_end_is_not_read_and_what_stands_before_is():
  cfg, params = network()
  wanted = openai_clip.encode_texts(params, cfg, jnp.asarray(ids([[5, 6, 7]])))
  after, before = ids([[5, 6, 7]]), ids([[5, 8, 7]])
  after[0, 5:] = [3, 9, 9, 1]
  np.testing.assert_allclose(openai_clip.encode_texts(params, cfg, jnp.asarray(after)), wanted, atol=1e-6)
  assert np.abs(openai_clip.encode_texts(params, cfg, jnp.asarray(before)) - wanted).max() > 1e-2
  short = openai_clip.encode_texts(params, cfg, jnp.asarray(ids([[5, 6, 7]])[:, :5]))
  np.testing.assert_allclose(short, wanted, atol=1e-6)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_a_picture_s_vector_does_not_depend_on_the_batch(tower):
  cfg, params = network(tower)
  side = cfg.vision.image
  pixels = jnp.asarray(np.random.default_rng(0).standard_normal((3, side, side, 3)), jnp.float32)
  whole = openai_clip.encode_images(params, cfg, pixels)
  assert np.abs(whole[0] - whole[1]).max() > 1e-2
  np.testing.assert_allclose(openai_clip.encode_images(params, cfg, pixels[1:2])[0], whole[1], rtol=1e-4, atol=1e-5)


def test_unit_vectors_are_of_length_one_and_zero_stays_zero():
  found = openai_clip.unit(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
  np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)


def test_the_factor_is_the_exponential_of_what_the_file_holds():
  _, params = network()
  np.testing.assert_allclose(openai_clip.scale(params), np.exp(2.5), rtol=1e-6)
  assert jax.tree.all(jax.tree.map(lambda leaf: leaf.dtype == np.float32, params))
