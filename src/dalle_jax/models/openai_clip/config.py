"""The sizes of a published CLIP, as its weights and the file that describes them state them."""

import dataclasses

from dalle_jax.errors import UserError
from dalle_jax.models.clip import CHANNEL_MEAN, CHANNEL_STD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
  """Transformer blocks: `mlp` hidden units each, whose non-linearity is QuickGELU or the exact GELU."""

  layers: int
  width: int
  heads: int
  mlp: int
  quick_gelu: bool

  def __post_init__(self) -> None:
    if self.heads < 1 or self.width % self.heads:
      raise UserError(f"a CLIP of width {self.width} does not divide into {self.heads} heads: its description is wrong")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionTransformer:
  """Pictures of image x image pixels, cut into patches of patch x patch."""

  image: int
  patch: int
  stack: Stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNet:
  """A residual network of four stages; `width` channels before the first, 32 times as many after the last."""

  image: int
  width: int
  blocks: tuple[int, int, int, int]
  heads: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """Captions of `length` ids below `vocab`.

  end: the id at whose first place a caption is read; None for the place of the highest id, which is the published
  vocabulary's end-of-text.
  """

  vocab: int
  length: int
  stack: Stack
  end: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """embed: the shared space. mean and std: of the channels, by which pixels in [0, 1] are normalised."""

  vision: VisionTransformer | ResNet
  text: Text
  embed: int
  mean: tuple[float, float, float] = CHANNEL_MEAN
  std: tuple[float, float, float] = CHANNEL_STD
