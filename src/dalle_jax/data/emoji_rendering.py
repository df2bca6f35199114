"""A colour-emoji font's own bitmaps as pictures, 136 by 128 pixels on white."""

import dataclasses
import functools
import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dalle_jax.data.emoji_annotations import INSTALL
from dalle_jax.errors import UserError

WIDTH, HEIGHT = 136, 128
STRIKE = 109  # pixels an em, the one size that Noto's bitmaps are drawn for
SLACK = 4  # pixels that one glyph may be wider than its picture


@dataclasses.dataclass(frozen=True)
class Font:
  """Draws texts of one emoji each."""

  path: Path

  @functools.cached_property
  def face(self) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(self.path, STRIKE)

  def draw(self, text: str) -> Image.Image | str:
    """The emoji as an RGB picture, or why there is none: "no glyph in the font" or "several glyphs"."""
    if self.face.getlength(text) > WIDTH + SLACK:
      return "several glyphs"
    picture = Image.new("RGBA", (WIDTH, HEIGHT), (255, 255, 255, 0))
    ImageDraw.Draw(picture).text((0, 0), text, font=self.face, embedded_color=True)
    if picture.getchannel("A").getbbox() is None:
      return "no glyph in the font"
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A"))
    return paper


def open_font(path: Path) -> Font:
  """The font of a file. Raises UserError when it is missing or has no colour bitmaps of the size that is drawn."""
  if not path.is_file():
    raise UserError(f"no emoji font at {path}: {INSTALL}")
  font = Font(path)
  try:
    with path.open("rb") as file:
      tables = file.read(12 + 16 * 64)
    if b"CBDT" not in tables:
      raise UserError(f"{path} has no colour bitmaps (a CBDT table): wanted a font such as NotoColorEmoji.ttf")
    font.face.getlength("x")
  except OSError as error:
    raise UserError(f"cannot draw with the font {path}: {error}; wanted NotoColorEmoji.ttf") from error
  return font


def png(picture: Image.Image) -> bytes:
  """The picture's PNG bytes."""
  file = io.BytesIO()
  picture.save(file, "PNG")
  return file.getvalue()
