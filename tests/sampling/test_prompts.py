"""Parts of a picture that are given: which codes stay, what is drawn beside them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toy_transformer import GRID, captions, config, weights

from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.sampling import generate as generate_module
from dalle_jax.sampling.choose import SamplingConfig, choose
from dalle_jax.sampling.generate import generate, generate_recompute
from dalle_jax.sampling.prompts import DRAWN, Region, Top, read_picture, two_panels, unseen

CODES = np.arange(GRID**2, dtype=np.int32).reshape(GRID, GRID) % 24
PARTS = (Top(rows=2), Region(top=1, left=1, bottom=4, right=3))


def drawn(how, cfg, params, given_P, samples=3, sampling=SamplingConfig()):  # noqa: B008  it is frozen
  numbers = jnp.arange(2), jnp.arange(samples)
  given = None if given_P is None else jnp.tile(jnp.asarray(given_P), (2, 1))
  return np.asarray(how(params, captions(2), jax.random.key(0), *numbers, model=cfg, sampling=sampling, given_CN=given))


@pytest.fixture(scope="module")
def stack():
  cfg = config(("row", "column"), layers=3, last="conv")
  return cfg, weights(cfg)


@pytest.mark.parametrize("part", [pytest.param(PARTS[0], marks=pytest.mark.slow), PARTS[1]], ids=["top", "region"])
def test_cached_drawing_beside_what_is_given_is_full_recomputation(stack, part):
  given_P = part.given(CODES)
  got = drawn(generate, *stack, given_P)
  np.testing.assert_array_equal(got, drawn(generate_recompute, *stack, given_P))
  stays = given_P != DRAWN
  assert 0 < stays.sum() < stays.size
  np.testing.assert_array_equal(got[..., stays], np.broadcast_to(given_P[stays], got[..., stays].shape))
  assert len(np.unique(got[..., ~stays])) > 5
  assert (got[..., ~stays] != drawn(generate, *stack, None)[..., ~stays]).any()  # they look at what is given


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("full", "conv", "row_only", "conv_corner")]


@pytest.mark.parametrize("kind", ["row", "column", "conv_clamped", *SLOW])
def test_however_many_codes_are_given_the_rest_is_full_recomputation(kind):
  cfg = config((kind,))
  params = weights(cfg)
  for count in (1, GRID, 13, GRID**2 - 1):
    given_P = np.where(np.arange(GRID**2) < count, CODES.reshape(-1), DRAWN)
    got = drawn(generate, cfg, params, given_P)
    np.testing.assert_array_equal(got, drawn(generate_recompute, cfg, params, given_P), err_msg=f"{count} given")


@pytest.mark.slow
def test_captions_may_be_given_different_parts(stack):
  """The first is drawn from its 8th code on, the second from its 12th: rows are read as far as both are given."""
  cfg, params = stack
  given = np.stack([np.where(np.arange(GRID**2) < count, CODES.reshape(-1), DRAWN) for count in (8, 12)])
  given[0, 20] = 3
  arguments = (params, captions(2), jax.random.key(0), jnp.arange(2), jnp.arange(3))
  against = captions(8)[5:7]
  for more in ({}, {"against_CT": against}):
    how = {"model": cfg, "sampling": SamplingConfig(guidance=2.0 if more else 1.0), "given_CN": jnp.asarray(given)}
    got = np.asarray(generate(*arguments, **how, **more))
    np.testing.assert_array_equal(got, generate_recompute(*arguments, **how, **more))
    assert (got[0, :, :8] == CODES.reshape(-1)[:8]).all()
    assert (got[1, :, :12] == CODES.reshape(-1)[:12]).all()
    assert (got[0, :, 20] == 3).all()


def test_all_codes_given_are_what_comes_back(stack):
  got = drawn(generate, *stack, CODES.reshape(-1))
  np.testing.assert_array_equal(got, np.broadcast_to(CODES.reshape(-1), got.shape))


def test_one_program_draws_from_the_first_code_that_is_not_given_on(monkeypatch):
  positions = []

  def noted(logits_BV, keys_B, j, sampling):
    jax.debug.callback(lambda j: positions.append(int(j)), j)
    return choose(logits_BV, keys_B, j, sampling)

  monkeypatch.setattr(generate_module, "choose", noted)
  cfg = config(("row",), layers=1)
  params = weights(cfg)
  sampling = SamplingConfig(temperature=0.75)  # like no other test's, which would take the program that notes
  programs = generate._cache_size()
  for count in (0, 1, 13, GRID**2):
    positions.clear()
    given_P = np.where(np.arange(GRID**2) < count, CODES.reshape(-1), DRAWN)
    drawn(generate, cfg, params, given_P, sampling=sampling)
    jax.effects_barrier()
    assert sorted(positions) == list(range(count, GRID**2))
  assert generate._cache_size() == programs + 1


def test_what_is_drawn_before_anything_given_is_as_without_it(stack):
  given_P = np.full(GRID**2, DRAWN)
  given_P[7] = (drawn(generate, *stack, None)[0, 0, 7] + 1) % 24
  got, free = drawn(generate, *stack, given_P), drawn(generate, *stack, None)
  np.testing.assert_array_equal(got[..., :7], free[..., :7])
  assert (got[..., 7] == given_P[7]).all()


@pytest.mark.slow
def test_the_most_likely_codes_beside_what_is_given_are_the_forward_pass_s_own(stack):
  cfg, params = stack
  given_P = Top(rows=2).given(CODES)
  codes = drawn(generate, *stack, given_P, samples=1, sampling=SamplingConfig(temperature=0.0))[:, 0]
  logits = transformer.Transformer(cfg).apply({"params": params}, captions(2), jnp.asarray(codes)).image_BNV
  np.testing.assert_array_equal(np.argmax(logits, axis=-1)[:, 2 * GRID :], codes[:, 2 * GRID :])


def test_what_stays():
  rows = Top(rows=2).given(CODES).reshape(GRID, GRID)
  np.testing.assert_array_equal(rows[:2], CODES[:2])
  assert (rows[2:] == DRAWN).all()
  around = Region(top=1, left=2, bottom=3, right=5).given(CODES).reshape(GRID, GRID)
  hole = np.zeros((GRID, GRID), bool)
  hole[1:3, 2:5] = True
  np.testing.assert_array_equal(around == DRAWN, hole)
  np.testing.assert_array_equal(around[~hole], CODES[~hole])


def test_what_could_not_be_seen_is_counted():
  assert unseen(Top(rows=2).given(CODES)) == 0
  # Of rows 1 and 2 the first two codes of row 2, and the last two rows; columns 2 to 4 of rows 1 and 2 are drawn.
  assert unseen(Region(top=1, left=2, bottom=3, right=5).given(CODES)) == 2 + 2 * GRID
  assert unseen(CODES.reshape(-1)) == 0


@pytest.mark.parametrize(
  ("make", "complaint"),
  [
    (lambda: Top(rows=0).given(CODES), "got 0 rows of a picture of 5 rows of codes, wanted 1 to 4"),
    (lambda: Top(rows=5).given(CODES), "got 5 rows of a picture of 5 rows of codes, wanted 1 to 4"),
    (lambda: Region.parse("1,2,3"), "got a region 1,2,3, wanted top,left,bottom,right in codes, as in 8,8,24,24"),
    (lambda: Region.parse("-1,2,3,4"), "got a region -1,2,3,4, wanted"),
    (
      lambda: Region.parse("0,0,6,2").given(CODES),
      "got the region 0,0,6,2, wanted top < bottom and left < right, from",
    ),
    (lambda: Region.parse("2,0,2,2").given(CODES), "got the region 2,0,2,2, wanted top < bottom"),
    (lambda: Region.parse("0,0,5,5").given(CODES), "the region 0,0,5,5 is the whole picture, and nothing would stay"),
    (lambda: two_panels(np.zeros((4, 1, 3), np.uint8)), "got a picture of 1x4 pixels, wanted at least 2x1"),
  ],
)
def test_a_part_that_cannot_be_is_told(make, complaint):
  with pytest.raises(UserError, match=complaint):
    make()


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (10, 100), (31, 33)])
def test_two_panels_have_the_picture_s_middle_above_white(height, width):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
  canvas = two_panels(image)
  high = len(canvas) // 2
  assert canvas.shape == (2 * high, 2 * high, 3)
  assert (canvas[high:] == 255).all()
  top, left = (height - high) // 2, (width - 2 * high) // 2
  np.testing.assert_array_equal(canvas[:high], image[top : top + high, left : left + 2 * high])


def test_pictures_of_every_mode_are_read_and_what_is_none_is_told(tmp_path):
  for mode in ("RGB", "L", "RGBA", "P", "LA"):
    Image.new(mode, (3, 2)).save(tmp_path / f"{mode}.png")
    assert read_picture(str(tmp_path / f"{mode}.png")).shape == (2, 3, 3)
  assert (read_picture(str(tmp_path / "RGBA.png")) == 255).all()  # all of it is transparent
  Image.fromarray(np.full((2, 3), 40000, np.uint16)).save(tmp_path / "grey16.png")
  assert (read_picture(str(tmp_path / "grey16.png")) == 156).all()
  Image.fromarray(np.full((2, 3), 0.5, np.float32)).save(tmp_path / "float.tiff")
  with pytest.raises(UserError, match="its pixels are of 32 bits; save it with 8 or 16"):
    read_picture(str(tmp_path / "float.tiff"))
  (tmp_path / "text.png").write_text("no picture")
  with pytest.raises(UserError, match=r"cannot read the picture .*text.png: it is no picture that can be read"):
    read_picture(str(tmp_path / "text.png"))
  with pytest.raises(UserError, match=r"cannot read the picture .*none.png: No such file or directory"):
    read_picture(str(tmp_path / "none.png"))
