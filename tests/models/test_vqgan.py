"""The VQGAN's sizes and pixels. What it computes is compared with the official modules in tests/parity."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vqgan_files

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import vqgan

SMALL = vqgan_files.SMALL


@functools.cache
def shapes(cfg):
  return sharding.unbox(jax.eval_shape(lambda: vqgan.init(jax.random.key(0), cfg)))


def test_a_code_stands_for_16_pixels_along_a_side_as_published():
  assert (vqgan.VqganConfig().factor, vqgan.VqganConfig().grid) == (16, 16)
  assert vqgan.VqganConfig(multiples=(1, 1, 2, 4), attention=(3,)).grid == 32


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_black_is_the_lowest_value_and_white_is_one_and_all_levels_come_back(low):
  cfg = replace(SMALL, low=low)
  levels = jnp.arange(256, dtype=jnp.uint8)[None, :, None, None] * jnp.ones((1, 1, 1, 3), jnp.uint8)
  mapped = vqgan.map_pixels(cfg, levels)
  assert (float(mapped.min()), float(mapped.max())) == (low, 1.0)
  np.testing.assert_array_equal(vqgan.unmap_pixels(cfg, mapped), levels)
  beyond = jnp.array([low - 1, 2.0])[None, :, None, None] * jnp.ones((1, 1, 1, 3))
  assert vqgan.unmap_pixels(cfg, beyond)[0, :, 0, 0].tolist() == [0, 255]


def test_a_decoder_alone_has_no_parameters_of_an_encoder_and_says_so():
  cfg = replace(SMALL, encoder=False)
  assert set(shapes(SMALL)) - set(shapes(cfg)) == {"encoder", "quant_conv"}
  with pytest.raises(UserError, match="only decode: pictures can't be made codes by them"):
    jax.eval_shape(lambda p, x: vqgan.encode_images(p, cfg, x), shapes(cfg), jnp.zeros((1, 16, 16, 3), jnp.uint8))


def test_sides_that_do_not_divide_are_told():
  with pytest.raises(UserError, match="got pictures of 16 by 15 pixels, the VQGAN wants sides that are multiples of 2"):
    vqgan.encode_images(shapes(SMALL), SMALL, jnp.zeros((1, 16, 15, 3), jnp.uint8))


@pytest.mark.parametrize(
  ("wrong", "words"),
  [
    ({"vocab": 0}, "the VQGAN's vocab is 0: it must be at least 1"),
    ({"multiples": ()}, "the VQGAN's multiples are (): one or more are wanted"),
    ({"width": 48}, "the VQGAN's width is 48: it is normalised in 32 groups"),
    ({"attention": (2,)}, "the VQGAN has attention at levels (2,), its levels are 0 to 1"),
    ({"image": 15}, "pictures of 15 pixels can't be halved 1 times: change image"),
    ({"low": 0.5}, "the VQGAN's black pixels are 0.5: -1 or 0 is wanted"),
  ],
)
def test_sizes_that_can_not_be_are_told(wrong, words):
  with pytest.raises(UserError) as info:
    replace(SMALL, **wrong)
  assert words in str(info.value)
