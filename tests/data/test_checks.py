import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from dalle_jax.data import checks
from dalle_jax.data.checks import Checked, checked
from dalle_jax.data.source import Dropped, Raw

GRADIENT_HWC = np.stack(np.meshgrid(np.arange(24) * 10, np.arange(16) * 15), -1).astype(np.uint8)
PICTURE = Image.fromarray(np.concatenate([GRADIENT_HWC, np.full((16, 24, 1), 90, np.uint8)], -1))


def saved(picture, form="PNG", **options):
  file = io.BytesIO()
  picture.save(file, form, **options)
  return file.getvalue()


def check(image, captions=("a caption",)):
  return checked(Raw(key="k", image=image, captions=captions))


def pixels(found):
  assert isinstance(found, Checked), found
  picture = Image.open(io.BytesIO(found.image))
  assert (picture.mode, picture.size) == ("RGB", found.size)
  return np.asarray(picture).astype(int)


def png_header(width, height, depth=8, colour=2):
  data = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
  chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))  # noqa: E731
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", data) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image", [saved(PICTURE), saved(PICTURE, "JPEG", quality=95)], ids=["png", "jpeg"])
def test_a_plain_picture_keeps_its_bytes(image):
  found = check(image)
  assert found == Checked(key="k", image=image, captions=("a caption",), attributes="", size=(24, 16))


def test_a_progressive_jpeg_is_written_anew_with_the_same_pixels():
  image = saved(PICTURE, "JPEG", progressive=True)
  found = check(image)
  assert found.image.startswith(b"\x89PNG")
  np.testing.assert_array_equal(pixels(found), np.asarray(Image.open(io.BytesIO(image))))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_truncated_picture_is_left_out(form):
  noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
  image = saved(noise, form)
  assert isinstance(check(image), Checked)
  found = check(image[: len(image) // 2])
  assert (found.key, found.reason) == ("k", "unreadable picture")
  assert found.detail


@pytest.mark.parametrize("image", [b"", b"not a picture", saved(PICTURE)[:20], b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_bytes_that_are_no_picture_are_left_out(image):
  assert check(image).reason == "unreadable picture"


@pytest.mark.parametrize("size", [(65536, 65536), (14000, 14000), (2**31 - 1, 2**31 - 1)])
def test_a_header_of_too_many_pixels_is_refused_before_any_is_decoded(size):
  with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    assert check(png_header(*size)).reason == "too many pixels"
  assert not told


def test_a_header_of_four_gigapixels_is_refused_in_little_memory_even_where_pillow_would_allow_it():
  script = """
import resource, sys
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
from dalle_jax.data import checks
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(checks.rgb(bytes.fromhex(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)
"""
  argv = [sys.executable, "-c", script, png_header(65536, 65536).hex()]
  done = subprocess.run(argv, capture_output=True, text=True, check=True)
  assert done.stdout.splitlines() == ["too many pixels: 65536x65536", "True"]


@pytest.mark.parametrize("image", [png_header(0, 5), b"P6\n0 4\n255\n"], ids=["png", "ppm"])
def test_a_picture_without_pixels_is_left_out(image):
  assert isinstance(check(image), Dropped)


def test_cmyk_grey_and_palette_pictures_become_rgb():
  cmyk = pixels(check(saved(PICTURE.convert("CMYK"), "JPEG", quality=100)))
  np.testing.assert_allclose(cmyk, np.asarray(PICTURE).astype(int), atol=12)
  grey = PICTURE.convert("L")
  np.testing.assert_array_equal(pixels(check(saved(grey))), np.asarray(grey)[..., None].repeat(3, -1))
  palette = PICTURE.quantize(16)
  np.testing.assert_array_equal(pixels(check(saved(palette))), np.asarray(palette.convert("RGB")))
  bits = PICTURE.convert("1")
  np.testing.assert_array_equal(pixels(check(saved(bits))), np.asarray(bits.convert("RGB")))


def test_sixteen_bits_become_eight_of_the_same_brightness():
  grey_HW = np.linspace(0, 65535, 16 * 24).reshape(16, 24).astype(np.uint16)
  found = pixels(check(saved(Image.fromarray(grey_HW))))
  np.testing.assert_allclose(found, (grey_HW / 257)[..., None].repeat(3, -1), atol=0.51)
  dark = pixels(check(saved(Image.fromarray(grey_HW // 300))))
  assert dark.max() == 1


def test_sixteen_bit_colour_becomes_eight_bit():
  rows = np.zeros((4, 1 + 5 * 6), np.uint8)
  rows[:, 1:] = np.tile(np.array([200, 17, 100, 3, 50, 250], np.uint8), 5)
  plain = png_header(5, 4, depth=16, colour=2)
  data = zlib.compress(rows.tobytes())
  idat = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
  found = check(plain[:33] + idat + plain[-12:])
  assert found.image[24:26] == b"\x08\x02"
  np.testing.assert_allclose(pixels(found), np.broadcast_to([200, 100, 50], (4, 5, 3)), atol=1)


def test_floats_are_scaled_from_one_or_taken_as_they_are():
  light_HW = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
  for grey_HW in (light_HW, light_HW * 255):
    found = pixels(check(saved(Image.fromarray(grey_HW), "TIFF")))
    np.testing.assert_allclose(found[..., 0], light_HW * 255, atol=0.51)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pictures_stand_on_white(mode):
  rgba_HWC = np.dstack([np.full((8, 8, 3), 40, np.uint8), np.full((8, 8), 255, np.uint8)])
  rgba_HWC[:4, :, 3] = 0
  picture = Image.fromarray(rgba_HWC)
  if mode == "P":
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 40, 40, 40])
    palette.paste(0, (0, 0, 8, 4))
    image = saved(palette, transparency=0)
  else:
    image = saved(picture.convert(mode))
  found = pixels(check(image))
  assert (found[:4] == 255).all()
  assert (found[4:] == 40).all()


def test_a_colour_marked_transparent_in_an_rgb_png_stands_on_white():
  found = pixels(check(saved(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))))
  assert (found == 255).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_kept(form):
  frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "lime", "blue")]
  options = {"lossless": True} if form == "WEBP" else {}
  found = pixels(check(saved(frames[0], form, save_all=True, append_images=frames[1:], **options)))
  np.testing.assert_array_equal(found, np.broadcast_to([255, 0, 0], (10, 12, 3)))


def test_a_picture_that_the_camera_took_on_its_side_is_turned_upright():
  exif = Image.Exif()
  exif[checks.ORIENTATION] = 6  # turn it a quarter to the right
  found = check(saved(PICTURE, exif=exif.tobytes()))
  assert found.size == (16, 24)
  np.testing.assert_array_equal(pixels(found), np.rot90(np.asarray(PICTURE), -1))


def test_damaged_exif_does_not_cost_the_picture():
  assert check(saved(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (24, 16)


@pytest.mark.parametrize(
  ("written", "kept"),
  [
    ("  a\tred\n circle ", "a red circle"),
    ("a\0 red\x07 circle\x1b[0m", "a red circle[0m"),
    ("🦊🏽\u200d🦰", "🦊🏽\u200d🦰"),
    ("\ud800 lone", "lone"),
    ("été 日本", "été 日本"),
    ("x" * 10_000, "x" * 10_000),
    ("\0\0", ""),
    ("\u200b\u00a0\ufeff", ""),
  ],
)
def test_captions_lose_control_characters_and_spare_space_and_nothing_else(written, kept):
  assert checks.clean(written) == kept


def test_a_picture_keeps_those_captions_that_say_something():
  assert check(saved(PICTURE), ("", "one", "\0", "two")).captions == ("one", "two")


@pytest.mark.parametrize(
  ("captions", "reason"), [((), "no caption"), (("",), "empty caption"), (("\0", " \n"), "empty caption")]
)
def test_a_picture_without_any_caption_is_left_out(captions, reason):
  assert check(saved(PICTURE), captions) == Dropped(key="k", reason=reason)


def test_the_suffixes_are_those_that_pillow_decodes_by_itself():
  assert {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"} <= checks.suffixes()
  assert ".eps" not in checks.suffixes()
  assert ".txt" not in checks.suffixes()
