"""Who looks at whom: the patterns of the paper (3.3, figure 11) and other programs', as predicates on positions.

The stream is T text positions and N = grid^2 image positions in raster order. Text looks at text causally, every image
position at all text. What an image position sees of the image is a rule on d = query - key >= 0, W = grid:

    full          all of it
    row           d <= W: a window of W tokens and itself, which crosses the ends of rows
    column        d a multiple of W
    conv          d < (h + 1) W and d mod W in {0 ... h, W - h ... W - 1}, h = (kernel - 1) / 2: columns wrap around
    row_only      the same row (DALLE-pytorch's axial_row)
    conv_corner   kernel x kernel cells whose bottom right corner is the query, no wrap (DALLE-pytorch's conv_like)
    conv_clamped  the causal half of kernel x kernel cells around the query, cut at the border (ruDALLE's third version)

L = T + N stream, Q K positions of queries and keys.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool

from dalle_jax.errors import UserError

KINDS = ("full", "row", "column", "conv", "row_only", "conv_corner", "conv_clamped")
CONVS = ("conv", "conv_corner", "conv_clamped")


@dataclasses.dataclass(frozen=True)
class Pattern:
  """Text and image positions, and which may look at which.

  order: "text_first", or "image_first", where text follows the image and sees all of it, and the image sees no text.
  softmax: "joint" over text and image keys, or "separate": an average over each of the two, added.
  Raises UserError for a kind, order, softmax or size that does not exist.
  """

  text: int
  grid: int
  kind: str = "full"
  kernel: int = 11
  order: str = "text_first"
  softmax: str = "joint"

  def __post_init__(self) -> None:
    for name in ("text", "grid", "kernel"):
      if not isinstance(getattr(self, name), int | np.integer):
        raise UserError(f"a pattern's {name} is {getattr(self, name)!r}: a whole number is wanted")
    if self.text < 0 or self.grid < 1:
      raise UserError(
        f"a pattern of {self.text} text positions and a {self.grid}x{self.grid} grid: wanted 0 and 1 or more"
      )
    _one_of("kind", self.kind, KINDS)
    _one_of("order", self.order, ("text_first", "image_first"))
    _one_of("softmax", self.softmax, ("joint", "separate"))
    if self.kind in CONVS and (self.kernel < 1 or self.kernel % 2 == 0):
      raise UserError(f"a pattern's kernel is {self.kernel}: an odd number of 1 or more is wanted")

  @property
  def image(self) -> int:
    """Image positions."""
    return self.grid**2

  @property
  def length(self) -> int:
    """All positions."""
    return self.text + self.image

  @property
  def image_start(self) -> int:
    """The first image position."""
    return self.text if self.order == "text_first" else 0

  @property
  def reach(self) -> int:
    """Rows of the grid, the query's own among them, that hold all image keys of a query."""
    half = (self.kernel - 1) // 2
    rows = {"row": 2, "row_only": 1, "conv": half + 2, "conv_corner": self.kernel, "conv_clamped": half + 1}
    return min(rows.get(self.kind, self.grid), self.grid)

  def allowed(self, q, k):
    """Whether position q sees position k, elementwise; integers or arrays of them, numpy's or traced."""
    is_text = lambda x: x < self.text if self.order == "text_first" else x >= self.image  # noqa: E731
    d = q - k
    seen = self.image_allowed(q - self.image_start, k - self.image_start)
    # The causal rule alone settles text and text, and image and text, in either order.
    return (d >= 0) & (is_text(q) | is_text(k) | seen)

  def image_allowed(self, i, j):
    """Whether image position i sees image position j."""
    w, half, d = self.grid, (self.kernel - 1) // 2, i - j
    down, across = i // w - j // w, i % w - j % w
    if self.kind == "row":
      return (d >= 0) & (d <= w)
    if self.kind == "column":
      return (d >= 0) & (d % w == 0)
    if self.kind == "row_only":
      return (d >= 0) & (down == 0)
    if self.kind == "conv":
      return (d >= 0) & (d < (half + 1) * w) & ((d % w <= half) | (d % w >= w - half))
    if self.kind == "conv_corner":
      return (down >= 0) & (down < self.kernel) & (across >= 0) & (across < self.kernel)
    if self.kind == "conv_clamped":
      return (d >= 0) & (down <= half) & (across <= half) & (across >= -half)
    return d >= 0

  def mask(self) -> Bool[np.ndarray, "L L"]:
    """True where the query (row) sees the key (column). The definition of the pattern."""
    return _mask(self).copy()


@functools.lru_cache(maxsize=64)
def _mask(pattern: Pattern) -> Bool[np.ndarray, "L L"]:
  i = np.arange(pattern.length)
  return pattern.allowed(i[:, None], i[None, :])


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise UserError(f"a pattern's {name} is {value!r}: one of {', '.join(known)} is wanted")
