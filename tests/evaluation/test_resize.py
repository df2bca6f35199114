"""The ways to 299 pixels, beside pictures whose resized pixels are known."""

import numpy as np
import PIL
import pytest

from dalle_jax.errors import UserError
from dalle_jax.evaluation import resize


def slope(side):
  """Each column is a little lighter than the one before."""
  return np.tile((np.arange(side) * 200 // side).astype(np.uint8)[None, :, None], (side, 1, 3))


@pytest.mark.parametrize("name", ["clean", "pytorch-fid", "tensorflow"])
def test_299_pixels_stay_as_they_are_and_come_into_the_networks_range(name):
  image_HWC = np.random.default_rng(0).integers(0, 256, (299, 299, 3), dtype=np.uint8)
  way = resize.named(name)
  (found_HWC,) = way([image_HWC])
  assert found_HWC.dtype == np.float32
  wanted = 2 * (image_HWC / 255) - 1 if name == "pytorch-fid" else (image_HWC.astype(float) - 128) / 128
  np.testing.assert_allclose(found_HWC, wanted, atol=1e-6)


def test_the_half_pixel_way_keeps_the_middle_and_the_corner_way_does_not():
  image_HWC = slope(100)
  half, corner = 255 * resize.half_pixel(image_HWC)[0, :, 0], resize.corner(image_HWC)[0, :, 0]
  # The middle of column 149 of 299 is the line between columns 49 and 50 of 100.
  assert half[149] == pytest.approx(99, abs=0.01)
  assert corner[149] == pytest.approx(2 * 149 * 100 / 299, abs=0.01)


def test_clean_smooths_where_it_shrinks():
  stripes = np.zeros((1196, 1196, 3), np.uint8)
  stripes[:, ::2] = 255
  assert np.ptp(resize.clean(stripes)[5:-5, 5:-5]) < 1
  assert np.ptp(resize.corner(stripes)) == 0  # every fourth column is white: the stripes alias away


def test_pictures_of_many_sizes_are_one_batch():
  found = resize.CLEAN([slope(20), slope(400)])
  assert found.shape == (2, 299, 299, 3)
  assert np.abs(found[0] - found[1]).mean() < 0.1


def test_a_result_says_how_it_was_made():
  assert resize.CLEAN.protocol() == {
    "resize": "clean",
    "filter": "bicubic, smoothed, not rounded",
    "library": f"Pillow {PIL.__version__}",
  }
  with pytest.raises(UserError, match="there is no resize 'bilinear'; wanted one of clean, pytorch-fid, tensorflow"):
    resize.named("bilinear")
