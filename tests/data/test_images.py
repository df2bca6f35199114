"""Crops against the paper's two listings, read off pictures whose pixels tell where they are."""

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data.images import CentreCrop, Stage1Crop, Stage2Crop, numbered_crop
from dalle_jax.errors import UserError


def coordinates(height, width):
  """Red says the row, green the column, blue nothing."""
  rows_HW, columns_HW = np.mgrid[:height, :width]
  return np.stack([rows_HW, columns_HW, np.zeros_like(rows_HW)], -1).astype(np.uint8)


def noise(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def shrunk(square_HHC, t):
  """Each pixel the mean of those whose centres lie on it."""
  edges_t = np.arange(t + 1) * len(square_HHC) / t
  centres_H = np.arange(len(square_HHC)) + 0.5
  covers_tH = (edges_t[:-1, None] < centres_H[None]) & (centres_H[None] <= edges_t[1:, None])
  weights_tH = covers_tH / covers_tH.sum(1, keepdims=True)
  return np.einsum("tH,uW,HWC->tuC", weights_tH, weights_tH, square_HHC.astype(np.float64), optimize=True)


def pieces(height, width, size, stage):
  """Every (top, left, t, row, column) that listing 1 or 2 may draw for a picture of that size."""
  s = min(height, width)
  if stage == 1:
    rows, columns = range(height - s + 1), range(width - s + 1)
    scales = range(min(s, round(9 / 8 * size)), min(s, round(12 / 8 * size)) + 1)
  else:
    rows, columns = (
      range(3 * slack // 8, max(3 * slack // 8 + 1, 5 * slack // 8)) for slack in (height - s, width - s)
    )
    scales = range(size, min(s, round(9 / 8 * size)) + 1)
  return {
    (top, left, t, row, column)
    for top in rows
    for left in columns
    for t in scales
    for row in range(t - size + 1)
    for column in range(t - size + 1)
  }


def pictured(image_HWC, piece, size, flip):
  top, left, t, row, column = piece
  s = min(image_HWC.shape[:2])
  out_SSC = shrunk(image_HWC[top : top + s, left : left + s], t)[row : row + size, column : column + size]
  return out_SSC[:, ::-1] if flip else out_SSC


@pytest.mark.parametrize(("crop", "stage"), [(Stage1Crop(size=8), 1), (Stage2Crop(size=8), 2)])
@pytest.mark.parametrize(("height", "width"), [(21, 16), (9, 12), (16, 16), (8, 8)])
def test_every_piece_of_the_listing_is_drawn_and_no_other(crop, stage, height, width):
  """Noise tells the pieces apart: each crop must be one of them to within rounding, each of them must turn up."""
  image_HWC, rng = noise(height, width), np.random.default_rng(1)
  wanted = pieces(height, width, 8, stage)
  options = [(piece, flip) for piece in wanted for flip in ((False, True) if stage == 1 else (False,))]
  rendered_NF = np.unique([pictured(image_HWC, piece, 8, flip).ravel() for piece, flip in options], axis=0)
  seen = set()
  for _ in range(12 * len(rendered_NF)):
    out_F = crop(image_HWC, rng).ravel().astype(np.float64)
    distance_N = np.abs(rendered_NF - out_F[None]).max(1)
    assert distance_N.min() <= 1.01
    seen.add(int(distance_N.argmin()))
  assert len(seen) >= 0.95 * len(rendered_NF)


def drawn(crop, height, width, draws=400):
  image_HWC, rng = coordinates(height, width), np.random.default_rng(0)
  return np.stack([crop(image_HWC, rng) for _ in range(draws)]).astype(np.float64)


def test_stage_1_takes_squares_from_anywhere_at_nine_to_twelve_eighths():
  """A pixel of a crop spans side / t pixels of the picture: the columns' step tells t, the corner the square."""
  crops_NSSC = drawn(Stage1Crop(size=32), 64, 240)
  steps_N = np.abs(crops_NSSC[:, :, -1, 1] - crops_NSSC[:, :, 0, 1]).mean(1) / 31
  assert 64 / steps_N.max() == pytest.approx(32 * 9 / 8, rel=0.03)
  assert 64 / steps_N.min() == pytest.approx(32 * 12 / 8, rel=0.03)
  columns_N = crops_NSSC[..., 1].min((1, 2))
  assert columns_N.min() < 8
  assert columns_N.max() > 240 - 64


def test_stage_1_mirrors_half_of_them_left_to_right_and_none_upside_down():
  crops_NSSC = drawn(Stage1Crop(size=32), 64, 96)
  mirrored_N = crops_NSSC[:, 0, 0, 1] > crops_NSSC[:, 0, -1, 1]
  assert 0.42 < mirrored_N.mean() < 0.58
  assert (crops_NSSC[:, -1, 0, 0] > crops_NSSC[:, 0, 0, 0]).all()


def test_stage_2_takes_squares_near_the_middle_at_eight_to_nine_eighths_and_mirrors_none():
  crops_NSSC = drawn(Stage2Crop(size=32), 64, 240)
  steps_N = (crops_NSSC[:, :, -1, 1] - crops_NSSC[:, :, 0, 1]).mean(1) / 31
  assert steps_N.min() > 0
  assert 64 / steps_N.max() == pytest.approx(32, rel=0.03)
  assert 64 / steps_N.min() == pytest.approx(36, rel=0.03)
  slack, left_N = 240 - 64, crops_NSSC[..., 1].min((1, 2))
  assert 3 * slack / 8 <= left_N.min() < 3 * slack / 8 + 5
  assert 5 * slack / 8 - 5 < left_N.max() < 5 * slack / 8 + 64 / 9 + 1


def test_the_centre_crop_is_the_middle_square_and_draws_nothing():
  rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
  out_SSC = CentreCrop(size=32)(noise(64, 101), rng)
  np.testing.assert_allclose(out_SSC, shrunk(noise(64, 101)[:, 18:82], 32), atol=1.01)
  assert rng.random() == untouched.random()
  np.testing.assert_array_equal(CentreCrop(size=20)(noise(20, 20), rng), noise(20, 20))


@pytest.mark.parametrize("kind", [Stage1Crop, Stage2Crop, CentreCrop])
@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (40, 5), (31, 33), (32, 32), (33, 500)])
def test_any_picture_gives_a_crop_of_the_size_wanted(kind, shape):
  out_SSC = kind(size=32)(noise(*shape), np.random.default_rng(0))
  assert out_SSC.shape == (32, 32, 3)
  assert out_SSC.dtype == np.uint8


@pytest.mark.parametrize("kind", [Stage1Crop, Stage2Crop])
def test_a_small_picture_is_enlarged_until_its_short_side_fits(kind):
  """16 x 32 becomes 32 x 64: the crop is a whole square of that, from left to right or mirrored."""
  image_HWC = noise(16, 32)
  large_HWC = np.asarray(Image.fromarray(image_HWC).resize((64, 32), Image.Resampling.BICUBIC))
  squares = [large_HWC[:, left : left + 32] for left in range(33)]
  squares += [square[:, ::-1] for square in squares] if kind is Stage1Crop else []
  rng = np.random.default_rng(0)
  for _ in range(20):
    out_SSC = kind(size=32)(image_HWC, rng)
    assert sum(np.array_equal(out_SSC, square) for square in squares) == 1


def test_a_crop_is_a_function_of_its_generator():
  once, again, other = (Stage1Crop(size=16)(noise(40, 50), np.random.default_rng(seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(once, again)
  assert not np.array_equal(once, other)


def test_a_numbered_crop_is_a_function_of_seed_key_and_number_alone():
  crop, image_HWC = Stage2Crop(size=16), noise(18, 120)
  args = [{"seed": seed, "key": key, "number": n} for seed in (0, 1) for key in ("a", "b", "ba", "é") for n in (0, 1)]
  first = [numbered_crop(crop, image_HWC, **each) for each in args]
  again = [numbered_crop(crop, image_HWC, **each) for each in reversed(args)][::-1]
  for a, b in zip(first, again):
    np.testing.assert_array_equal(a, b)
  assert len({a.tobytes() for a in first}) > 0.7 * len(args)


@pytest.mark.parametrize("kind", [Stage1Crop, Stage2Crop, CentreCrop])
def test_a_crop_of_no_pixels_is_refused(kind):
  with pytest.raises(UserError, match="a crop of 0 pixels: at least 1 is wanted"):
    kind(size=0)
