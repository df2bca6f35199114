"""Is this a picture with a caption? Bytes decoded safely, captions cleaned, or the reason why it is left out.

What a prepared data set holds is what every program reads: an 8-bit RGB picture as PNG or JPEG bytes, upright, without
transparency. Pictures that are so already keep their bytes.

H W pixels.
"""

import dataclasses
import functools
import io
import unicodedata
import warnings

import numpy as np
from PIL import Image, ImageOps

from dalle_jax.data.source import Dropped, Raw

MOST_PIXELS = 178_000_000
ORIENTATION = 0x0112  # the EXIF tag of how the camera was held; 1 is upright
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Mn"}  # Unicode categories without ink of their own
# Formats that Pillow hands to other programs, or that it only identifies.
EXTERNAL = {"BUFR", "EPS", "FPX", "GRIB", "HDF5", "MIC", "MPEG", "WMF"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
  """A picture that decodes and captions that say something; size is (width, height) in pixels."""

  key: str
  image: bytes
  captions: tuple[str, ...]
  attributes: str
  size: tuple[int, int]


def checked(raw: Raw) -> Checked | Dropped:
  """The example as it is written, or the reason why it can't be."""
  captions = tuple(filter(None, map(clean, raw.captions)))
  if not captions:
    return Dropped(key=raw.key, reason="empty caption" if raw.captions else "no caption")
  found = rgb(raw.image)
  if isinstance(found, str):
    reason, _, detail = found.partition(": ")
    return Dropped(key=raw.key, reason=reason, detail=detail)
  image, size = found
  return Checked(key=raw.key, image=image, captions=captions, attributes=raw.attributes, size=size)


def clean(caption: str) -> str:
  """The caption without control characters, white space squeezed; "" if nothing in it can be seen."""
  text = " ".join(caption.split())
  text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))
  text = " ".join(text.split())
  return text if any(unicodedata.category(c) not in UNSEEN for c in text) else ""


@functools.cache
def formats() -> tuple[str, ...]:
  """The names of the formats that Pillow decodes by itself."""
  Image.init()
  return tuple(sorted(set(Image.OPEN) - EXTERNAL))


def suffixes() -> frozenset[str]:
  """The file suffixes of those formats, in lower case, with their dot."""
  return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats())


def rgb(image: bytes) -> tuple[bytes, tuple[int, int]] | str:
  """The picture as bytes of an 8-bit RGB PNG or baseline JPEG, and its (width, height); or "reason: detail"."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Pillow warns of damage that it reads over, and of sizes that are refused here
    try:
      with Image.open(io.BytesIO(image), formats=formats()) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
          return f"too many pixels: {width}x{height}"
        if not width * height:
          return f"empty picture: {width}x{height}"
        picture.load()
        upright = ImageOps.exif_transpose(picture) if _rotated(picture) else picture
        if _is_plain(picture, image):
          return image, picture.size
        return _png(_eight_bit_rgb(upright)), upright.size
    except Image.DecompressionBombError:
      return f"too many pixels: more than {MOST_PIXELS}"
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
      return f"unreadable picture: {' '.join(str(error).split())[:120] or type(error).__name__}"


def _rotated(picture: Image.Image) -> bool:
  try:
    return picture.getexif().get(ORIENTATION, 1) not in (0, 1)
  except Exception:  # an EXIF block that can't be read says nothing about the picture
    return False


def _is_plain(picture: Image.Image, image: bytes) -> bool:
  if picture.mode != "RGB" or "transparency" in picture.info or _rotated(picture):
    return False
  if getattr(picture, "n_frames", 1) != 1:
    return False
  if picture.format == "PNG":
    return image[24:26] == b"\x08\x02"  # the header's bit depth and colour type
  return picture.format == "JPEG" and not picture.info.get("progressive")


def _eight_bit_rgb(picture: Image.Image) -> Image.Image:
  if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
    return Image.fromarray(_eight_bits(np.asarray(picture), picture.mode)).convert("RGB")
  if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
  return picture.convert("RGB")


def _eight_bits(grey_HW: np.ndarray, mode: str) -> np.ndarray:
  """uint8[H, W] of 16 bits, of floats from 0 to 1 or to 255, or of whole numbers of 8 or 16 bits."""
  grey_HW = np.nan_to_num(grey_HW.astype(np.float64))
  most = grey_HW.max()
  if mode == "F":
    scale = 255 if most <= 1 else 1
  else:
    scale = 1 if mode == "I" and most <= 255 else 1 / 257
  return (grey_HW * scale).clip(0, 255).round().astype(np.uint8)


def _png(picture: Image.Image) -> bytes:
  picture.info = {}  # a colour profile or resolution of the original would go with it
  file = io.BytesIO()
  picture.save(file, "PNG")
  return file.getvalue()
