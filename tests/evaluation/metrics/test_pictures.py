"""Blur and structural similarity.

H W pixels.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter

from dalle_jax.data import scenes
from dalle_jax.evaluation.metrics import looked_at
from dalle_jax.evaluation.metrics.blur import blurred
from dalle_jax.evaluation.metrics.networks import Networks
from dalle_jax.evaluation.metrics.ssim import ssim


def pictures(count=2, side=24, seed=0):
  small = np.random.default_rng(seed).integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
  return small.repeat(4, axis=1).repeat(4, axis=2)


def test_blur_is_pillows_of_each_picture_by_itself():
  images_NHWC = pictures()
  assert blurred(images_NHWC, 0) is images_NHWC
  for radius in (1, 2.5):
    found_NHWC = blurred(images_NHWC, radius)
    for image_HWC, own_HWC in zip(images_NHWC, found_NHWC):
      assert (np.asarray(Image.fromarray(image_HWC).filter(ImageFilter.GaussianBlur(radius))) == own_HWC).all()
    assert found_NHWC.std() < images_NHWC.std()


def by_definition(x_HW, y_HW):
  """SSIM of one channel in [0, 1], window by window in float64."""
  offsets = np.arange(11) - 5
  line = np.exp(-(offsets**2) / (2 * 1.5**2))
  weights = np.outer(line, line) / line.sum() ** 2
  found = []
  for i in range(x_HW.shape[0] - 10):
    for j in range(x_HW.shape[1] - 10):
      x, y = x_HW[i : i + 11, j : j + 11], y_HW[i : i + 11, j : j + 11]
      mx, my = (weights * x).sum(), (weights * y).sum()
      vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
      cxy = (weights * (x - mx) * (y - my)).sum()
      c1, c2 = 0.01**2, 0.03**2
      found.append((2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
  return np.mean(found)


def test_ssim_is_as_defined():
  x_NHWC, noise = pictures(), np.random.default_rng(1).normal(scale=25, size=(2, 24, 24, 3))
  y_NHWC = np.clip(x_NHWC + noise, 0, 255).astype(np.uint8)
  wanted = [
    np.mean([by_definition(x[..., c] / 255, y[..., c] / 255) for c in range(3)]) for x, y in zip(x_NHWC, y_NHWC)
  ]
  assert 0.2 < wanted[0] < 0.98
  np.testing.assert_allclose(ssim(jnp.asarray(x_NHWC), jnp.asarray(y_NHWC)), wanted, atol=2e-5)


def test_ssim_of_equal_pictures_is_one_and_flat_ones_are_told_apart():
  x_NHWC = jnp.asarray(pictures())
  np.testing.assert_allclose(ssim(x_NHWC, x_NHWC), 1, atol=1e-6)
  flat = [jnp.full((1, 16, 16, 3), value, jnp.uint8) for value in (10, 200)]
  assert float(ssim(*flat)[0]) < 0.2


def test_ssim_of_pictures_smaller_than_its_window_is_refused():
  x_NHWC = jnp.zeros((1, 8, 8, 3), jnp.uint8)
  with pytest.raises(ValueError, match="11x11"):
    ssim(x_NHWC, x_NHWC)


def test_an_aspect_is_judged_of_captions_that_say_something_of_it():
  one = scenes.ObjectClaim(shape="circle", colour="red")
  other = scenes.ObjectClaim(shape="square", colour="blue", size="big")
  claims = [
    scenes.Claims(objects=(one,)),
    scenes.Claims(objects=(one, other), relations=((0, "above", 1),), background="white"),
  ]
  found = looked_at.columns(pictures(), Networks(), (0,), claims=claims)
  said = [set(np.array(looked_at.ASPECTS)[row].tolist()) for row in found["claimed"]]
  always = {"all", "count", "shape", "colour"}
  assert said == [always, always | {"size", "relation", "background"}]
