"""A sheet of attention maps: a row for each layer, a column for each word, the weights drawn over the picture.

A layers, N image tokens, T text positions, W words, H W pixels, h w the grid.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from dalle_jax.evaluation import fonts
from dalle_jax.sampling.gallery import enlarge

TILE, MARGIN, LABEL, LINE = 128, 8, 148, 15
COLUMNS = 10  # words side by side at most; more go on below
LAYERS = 8  # rows at most, beside that of the mean
COOL, HOT = np.array([255, 214, 64]), np.array([178, 0, 42])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Row:
  """A layer, or the mean of all, and where its image positions look: shares of 1, means over positions but by_word.

  by_word_NW: of each position on each word; start, rest: on the start of text, and on spaces and pads together.
  """

  name: str
  by_word_NW: Float[np.ndarray, "N W"]
  start: float
  rest: float

  @property
  def words(self) -> float:
    return float(self.by_word_NW.sum(axis=1).mean())

  @property
  def picture(self) -> float:
    return 1 - self.words - self.start - self.rest


def rows(weights_ANT: Float[np.ndarray, "A N T"], places: Sequence[Sequence[int]], kinds: Sequence[str]) -> list[Row]:
  """The mean of all layers, then each layer, or some evenly spaced ones from the first to the last.

  places: of each word, which of the caption's tokens spell it.
  """
  # Text position 0 holds the start, so the caption's token i stands at position i + 1.
  by_word_ANW = np.stack([weights_ANT[..., [i + 1 for i in word]].sum(-1) for word in places], axis=-1)
  start_A = weights_ANT[..., 0].mean(-1)
  rest_A = weights_ANT.sum(-1).mean(-1) - start_A - by_word_ANW.sum(-1).mean(-1)
  total = len(weights_ANT)
  shown = sorted({round(i) for i in np.linspace(0, total - 1, min(total, LAYERS)).tolist()})
  made = [
    Row(name=f"layer {a + 1} of {total}, {kinds[a]}", by_word_NW=by_word_ANW[a], start=start_A[a], rest=rest_A[a])
    for a in shown
  ]
  if total == 1:
    return made
  name = f"mean of {total} layers"
  return [Row(name=name, by_word_NW=by_word_ANW.mean(0), start=start_A.mean(), rest=rest_A.mean()), *made]


def sheet(image_HWC: UInt8[np.ndarray, "H W 3"], words: Sequence[str], layers: Sequence[Row]) -> Image.Image:
  """The picture, then the maps; in a row the hottest colour is its greatest weight, which stands beside it.

  Under a map stands the word's share of the row's attention; what goes elsewhere is told beside the row.
  """
  side_by_side = math.ceil(len(words) / math.ceil(len(words) / COLUMNS))
  bands = [range(i, min(i + side_by_side, len(words))) for i in range(0, len(words), side_by_side)]
  step_x, step_y = TILE + MARGIN, TILE + LINE + MARGIN
  height = 2 * LINE + len(layers) * step_y
  top = TILE + 2 * MARGIN
  size = (LABEL + max(side_by_side, 4) * step_x + MARGIN, top + len(bands) * height + MARGIN)
  canvas = Image.new("RGB", size, "white")
  pen, font = ImageDraw.Draw(canvas), fonts.sized(fonts.matplotlibs(fonts.PLAIN), 11)
  chosen = [fonts.for_text(word, fonts.matplotlibs(fonts.BOLD)) for word in words]
  bolds = [fonts.sized(file, 12) for file, _ in chosen]
  explained = EXPLAINED if all(drawable for _, drawable in chosen) else f"{EXPLAINED}\n{BOXES}"
  canvas.paste(_tile(image_HWC), (MARGIN, MARGIN))
  pen.multiline_text((TILE + 2 * MARGIN, MARGIN), explained, fill=(90, 90, 90), font=font, spacing=3)
  for b, band in enumerate(bands):
    y = top + b * height
    for column, w in enumerate(band):
      pen.text((LABEL + column * step_x, y), _cut(words[w], bolds[w]), fill=(30, 30, 30), font=bolds[w])
    for r, row in enumerate(layers):
      line_y, most = y + LINE + MARGIN // 2 + r * step_y, float(row.by_word_NW.max())
      pen.multiline_text((MARGIN, line_y), _about(row, most), fill=(60, 60, 60), font=font, spacing=3)
      for column, w in enumerate(band):
        x = LABEL + column * step_x
        canvas.paste(overlay(image_HWC, row.by_word_NW[:, w] / max(most, 1e-12)), (x, line_y))
        share = f"{100 * row.by_word_NW[:, w].mean():.2g} %"
        pen.text((x, line_y + TILE), share, fill=(110, 110, 110), font=font)
  return canvas


def overlay(image_HWC: UInt8[np.ndarray, "H W 3"], heat_N: Float[np.ndarray, " N"]) -> Image.Image:
  """The picture in pale grey, and over each of its codes a colour as strong as its heat, from 0 to 1."""
  grid = round(len(heat_N) ** 0.5)
  grey = np.asarray(_tile(image_HWC).convert("L"), np.float64)[..., None]
  pale = 255 - 0.55 * (255 - grey)
  heat = Image.fromarray(heat_N.reshape(grid, grid).astype(np.float32)).resize((TILE, TILE), Image.Resampling.NEAREST)
  heat_HW1 = np.asarray(heat, np.float64)[..., None]
  colour = COOL + (HOT - COOL) * heat_HW1
  alpha = 0.9 * heat_HW1
  return Image.fromarray((pale * (1 - alpha) + colour * alpha).round().astype(np.uint8))


# In lines that the narrowest sheet, of four words, has room for.
EXPLAINED = (
  "which words the image tokens looked at, over the picture: a place is the token\n"
  "drawn there; mean over heads; in a row colours go from 0 to its greatest weight;\n"
  "under a map is the word's share of the row"
)
BOXES = "a box is a letter that no font of this machine has"


def _about(row: Row, most: float) -> str:
  parts = {"words": row.words, "start of text": row.start, "spaces, pads": row.rest, "picture": row.picture}
  lines = [f"{name} {100 * share:.0f} %" for name, share in parts.items()]
  return "\n".join([row.name, *lines, f"hottest {100 * most:.2g} %"])


def _tile(image_HWC: UInt8[np.ndarray, "H W 3"]) -> Image.Image:
  return Image.fromarray(enlarge(image_HWC, TILE)).resize((TILE, TILE), Image.Resampling.BOX)


def _cut(word: str, font: ImageFont.FreeTypeFont) -> str:
  if font.getlength(word) <= TILE:
    return word
  while word and font.getlength(word + "…") > TILE:
    word = word[:-1]
  return word + "…"
