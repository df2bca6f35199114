"""`emoji`: a colour-emoji font's pictures with the Unicode CLDR's names and keywords. Nothing is downloaded.

Left out: what the font has no picture of, what it draws as several, and, of pictures that are the same, all but the one
of the shortest name.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from dalle_jax.data import emoji_annotations, emoji_rendering, emoji_splits
from dalle_jax.data.emoji_annotations import Annotation
from dalle_jax.data.prepared import features
from dalle_jax.data.source import Dropped, Raw

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
ANNOTATIONS = Path("/usr/share/unicode/cldr/common")


@dataclasses.dataclass(frozen=True)
class EmojiSource:
  """The emoji that have a name, drawn as they are asked for."""

  font: emoji_rendering.Font
  annotations: tuple[Annotation, ...]

  @property
  def name(self) -> str:
    return "emoji"

  @property
  def splits(self) -> tuple[str, ...]:
    return emoji_splits.SPLITS

  def count(self, split: str) -> int:
    return sum(emoji_splits.split(each.text) == split for each in self.annotations)

  def examples(self, split: str) -> Iterator[Raw | Dropped]:
    for each in self.annotations:
      if emoji_splits.split(each.text) == split:
        yield self._example(each)

  def _example(self, each: Annotation) -> Raw | Dropped:
    picture = self.font.draw(each.text)
    if isinstance(picture, str):
      return Dropped(key=each.key, reason=picture, detail=each.name)
    first = self._firsts[_digest(picture)]
    if first != each:
      return Dropped(key=each.key, reason="same picture as another", detail=f"{each.name}, drawn as {first.name}")
    return Raw(key=each.key, image=emoji_rendering.png(picture), captions=each.captions)

  @functools.cached_property
  def _firsts(self) -> dict[bytes, Annotation]:
    """By each picture's digest, the one that is kept: a flag of France is France's before its islands'."""
    firsts: dict[bytes, Annotation] = {}
    for each in sorted(self.annotations, key=lambda each: (len(each.name), each.text)):
      picture = self.font.draw(each.text)
      if not isinstance(picture, str):
        firsts.setdefault(_digest(picture), each)
    return firsts


def open_emoji(*, font: Path | None = None, annotations: Path | None = None, language: str = "en") -> EmojiSource:
  """The emoji of a font file and a CLDR folder, by default where Debian installs them; captions in `language`.

  Raises UserError, saying what to install, when one of them is missing.
  """
  drawn = emoji_rendering.open_font(font or FONT)
  return EmojiSource(drawn, emoji_annotations.read(annotations or ANNOTATIONS, language))


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
  """Where the font and the names are. TFDS wants its configs mutable, and named: by the language."""

  name: str = ""
  font: Path = FONT
  annotations: Path = ANNOTATIONS
  language: str = "en"

  def __post_init__(self):
    self.name = self.name or self.language


class Emoji(tfds.core.GeneratorBasedBuilder):
  """Pictures by artists of what people write about, with names and keywords in over a hundred languages."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(features=features(), supervised_keys=None)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager
    config = self.builder_config
    source = open_emoji(font=config.font, annotations=config.annotations, language=config.language)
    return {split: self._generate_examples(source, split) for split in source.splits}

  def _generate_examples(self, source: EmojiSource, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in source.examples(split):
      if isinstance(each, Raw):
        yield each.key, dataclasses.asdict(each)


def _digest(picture: Any) -> bytes:
  return hashlib.sha256(picture.tobytes()).digest()
