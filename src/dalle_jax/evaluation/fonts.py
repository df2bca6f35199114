"""Fonts for text on pictures: Matplotlib's own, and for letters that it lacks one of the machine's that has them."""

import functools
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib import font_manager, ft2font
from PIL import ImageFont

PLAIN, BOLD = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"


def matplotlibs(name: str) -> Path:
  """The file of PLAIN or BOLD: they come with Matplotlib, and have the letters of more languages than Pillow's own."""
  return Path(matplotlib.get_data_path(), "fonts/ttf", name)


def installed() -> list[Path]:
  """Fonts of this machine that Matplotlib finds, by path; not the last resort, whose every letter is a box."""
  found = {Path(entry.fname) for entry in font_manager.fontManager.ttflist}
  return sorted(file for file in found if "LastResort" not in file.name)


def for_text(text: str, first: Path, others: Iterable[Path] | None = None) -> tuple[Path, bool]:
  """`first`, or where it lacks letters of `text` the first of `others` that has them all; and whether one has them.

  others: `installed()` if None, which is asked only where it is needed.
  """
  wanted = {ord(letter) for letter in text if not letter.isspace()}
  if wanted <= letters(first):
    return first, True
  found = next((file for file in (installed() if others is None else others) if wanted <= letters(file)), None)
  return found or first, found is not None


@functools.cache
def letters(file: Path) -> frozenset[int]:
  """Code points that the font can draw at any size: none where it holds pictures of one size, or can't be read."""
  try:
    font = ft2font.FT2Font(str(file))
  except (OSError, RuntimeError):
    return frozenset()
  return frozenset(font.get_charmap()) if font.scalable else frozenset()


def sized(file: Path, size: int) -> ImageFont.FreeTypeFont:
  return ImageFont.truetype(str(file), size)
