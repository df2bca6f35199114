"""`raven` as a source of `dalle data prepare`: solved matrices of half of the kinds of rule, captioned as in the blog.

Example i of a split is a function of (seed, split, i) alone. The kinds take turns.
"""

import dataclasses
import io
import random
from collections.abc import Iterator

from PIL import Image

from dalle_jax.data.raven import items, rules
from dalle_jax.data.source import Raw
from dalle_jax.errors import UserError

NAME = "raven"
SPLITS = ("train", "valid")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """image: pixels a side; grid: codes a side of the dVAE the pictures are for; inverted: share white on black."""

  image: int = 48
  grid: int = 12
  train: int = 12_000
  valid: int = 300
  inverted: float = 0.25
  seed: int = 0

  def __post_init__(self) -> None:
    for field in SPLITS:
      if getattr(self, field) < 1:
        raise UserError(f"got {field}={getattr(self, field)} for {NAME}, wanted at least 1")
    if not 0 <= self.inverted <= 1:
      raise UserError(f"got inverted={self.inverted} for {NAME}, wanted a share from 0 to 1")
    self.layout()

  def layout(self) -> items.Layout:
    """Where panels lie. Raises UserError where pictures of this size can't hold them."""
    return items.Layout(image=self.image, grid=self.grid)


@dataclasses.dataclass(frozen=True)
class Matrices:
  """Draws the examples of a split as they are asked for."""

  config: Config

  @property
  def name(self) -> str:
    return NAME

  @property
  def splits(self) -> tuple[str, ...]:
    return SPLITS

  def count(self, split: str) -> int:
    return getattr(self.config, split)

  def examples(self, split: str) -> Iterator[Raw]:
    for index in range(self.count(split)):
      yield make_example(self.config, split, index)


def make_example(config: Config, split: str, index: int) -> Raw:
  """Example `index` of a split."""
  kind = rules.TRAINED[index % len(rules.TRAINED)]
  rng = random.Random(f"{config.seed}/{split}/{index}")
  inverted = rng.random() < config.inverted
  item = items.draw(kind, rng, config.layout(), inverted=inverted)
  png = io.BytesIO()
  Image.fromarray(item.pixels()).save(png, "PNG", compress_level=1)
  return Raw(key=f"{split}-{index:07d}", image=png.getvalue(), captions=(item.caption,))
