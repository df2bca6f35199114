"""`dalle data prepare WHAT --out DIR`: finds the source that WHAT names, writes it as a prepared data set, reports."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dalle_jax.commands.suggest import suggest
from dalle_jax.errors import UserError

if TYPE_CHECKING:
  from dalle_jax.data.source import Source

USAGE = """\
usage: dalle data prepare captioned_scenes --out DIR [--image 32 --train 30000 --seed 0 ...]
       dalle data prepare raven --out DIR [--image 48 --grid 12 --train 12000 --inverted 0.25 --seed 0 ...]
       dalle data prepare emoji --out DIR [--language en --font FILE --annotations FOLDER]
       dalle data prepare FOLDER --out DIR         a.png with a.txt (a caption a line), or captions.tsv or .jsonl
                                                     (columns or fields file and caption)
       dalle data prepare FILES.tar ... --out DIR  WebDataset shards: 1.jpg with 1.txt or 1.json
       dalle data prepare TFDS_NAME --out DIR [--data-dir DIR --image-feature NAME --text-feature NAME]

All of them take --filters paper and --shards N; dalle data prepare WHAT --help tells the rest.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Decodes and checks every picture and caption, and writes them as a prepared data set."""

  out: Path
  """Where to write; nothing may stand there yet."""
  filters: Literal["none", "paper"] = "none"
  """paper: no short captions, no boilerplate, aspect ratio in [1/2, 2], English where a language detector is there."""
  shards: int | None = None
  """Files of each split; chosen by its size if not said."""

  def __post_init__(self) -> None:
    if self.shards is not None and self.shards < 1:
      raise UserError(f"got --shards {self.shards}, wanted at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneFlags(Flags):
  """Draws one to three objects in relations, with captions in varied wording."""

  image: int = 32
  """Pixels a side."""
  captions: int = 2
  """Captions of each picture."""
  train: int = 30_000
  """Examples of this split."""
  valid: int = 600
  """Examples of this split."""
  test: int = 600
  """Examples of this split: combinations of attributes that train never shows."""
  test_pairs: int = 600
  """Examples of this split: pairs of shape and colour that train never shows."""
  seed: int = 0
  """The same seed draws the same data set."""

  def source(self, words: Sequence[str]) -> "Source":
    """What these flags name."""
    from dalle_jax.data import captioned_scenes, scenes_source

    names = [f.name for f in dataclasses.fields(SceneFlags) if f not in dataclasses.fields(Flags)]
    return scenes_source.Scenes(captioned_scenes.Config(**{name: getattr(self, name) for name in names}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RavenFlags(Flags):
  """Draws solved matrices of half of the kinds of rule of Raven's; `dalle probe WORKDIR raven` asks for all."""

  image: int = 48
  """Pixels a side."""
  grid: int = 12
  """Codes a side of the dVAE the pictures are for; panels lie on it."""
  train: int = 12_000
  """Examples of this split."""
  valid: int = 300
  """Examples of this split."""
  inverted: float = 0.25
  """The share that is white on black."""
  seed: int = 0
  """The same seed draws the same data set."""

  def source(self, words: Sequence[str]) -> "Source":
    """What these flags name."""
    from dalle_jax.data.raven import source

    names = [f.name for f in dataclasses.fields(source.Config)]
    return source.Matrices(source.Config(**{name: getattr(self, name) for name in names}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmojiFlags(Flags):
  """Renders a colour-emoji font, with the names and keywords of the Unicode CLDR."""

  font: Path | None = None
  """NotoColorEmoji.ttf; where Debian's fonts-noto-color-emoji has it if not said."""
  annotations: Path | None = None
  """The folder that holds annotations/ and annotationsDerived/; where Debian's unicode-cldr-core has it if not said."""
  language: str = "en"
  """Of the captions: en, de, ja, ..."""

  def source(self, words: Sequence[str]) -> "Source":
    """What these flags name."""
    from dalle_jax.data import emoji

    return emoji.open_emoji(font=self.font, annotations=self.annotations, language=self.language)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderFlags(Flags):
  """Reads pictures with captions beside them."""

  def source(self, words: Sequence[str]) -> "Source":
    """What these flags name."""
    from dalle_jax.data import folder

    return folder.open_folder(words[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TarFlags(Flags):
  """Reads WebDataset shards."""

  def source(self, words: Sequence[str]) -> "Source":
    """What these flags name."""
    from dalle_jax.data import webdataset

    return webdataset.open_tars(words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsFlags(Flags):
  """Reads a data set of TensorFlow Datasets that is prepared as array_record."""

  data_dir: Path | None = None
  """Where it lies; ~/tensorflow_datasets, or TFDS_DATA_DIR, if not said."""
  image_feature: str | None = None
  """The feature that holds the picture, for example image; found by its type if not said."""
  text_feature: str | None = None
  """The feature that holds the captions, for example captions/text; found by its type if not said."""

  def source(self, words: Sequence[str]) -> "Source":
    """What these flags name."""
    from dalle_jax.data import tfds_source

    return tfds_source.open_tfds(
      words[0], data_dir=self.data_dir, image_feature=self.image_feature, text_feature=self.text_feature
    )


def run(argv: list[str]) -> int:
  """Parses the flags, prepares, prints the report. Returns the exit code."""
  if not argv or argv[0] in ("-h", "--help"):
    print(USAGE, end="")
    return 0
  begin = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
  words, rest = argv[:begin], argv[begin:]
  kind = flags_for(words)
  from dalle_jax.commands import flags

  given = flags.parse(kind, rest, prog=f"dalle data prepare {words[0]}")
  from dalle_jax.commands import progress

  source = given.source(words)
  from dalle_jax.data import filters, language, prepare, prepare_report

  chosen = filters.Filters(detector=language.installed()) if given.filters == "paper" else None
  with progress.shown() as tell:
    report = prepare.prepare(source, given.out, filters=chosen, shards=given.shards, progress=tell)
  print(prepare_report.as_text(report))
  print(f"\n{given.out}")
  return 0


def flags_for(words: Sequence[str]) -> type[Flags]:
  """The flags of the kind of source that the words name. Raises UserError for a missing folder or a misspelt name."""
  if not words:
    raise UserError(f"nothing to prepare; wanted: dalle data prepare {'|'.join(NAMES)}|FOLDER|FILES.tar --out DIR")
  what = words[0]
  if all(_is_tar(word) for word in words):
    return TarFlags
  if len(words) > 1:
    raise UserError(f"got {len(words)} things to prepare, wanted one (or several .tar files): {' '.join(words)[:80]}")
  if what in NAMES:
    return NAMES[what]
  if Path(what).is_dir():
    return FolderFlags
  if Path(what).is_file():
    raise UserError(f"{what} is a file; wanted a folder of pictures with captions, .tar files, or a data set's name")
  if not TFDS_NAME.fullmatch(what):
    raise UserError(f"no folder at {what}; wanted a folder of pictures with captions, .tar files, or a data set's name")
  known = suggest(what, list(NAMES))
  if known.startswith("did you mean"):
    raise UserError(f"no folder and no data set {what!r}; {known}")
  return TfdsFlags


def _is_tar(word: str) -> bool:
  return word.endswith((".tar", ".tar.gz", ".tgz")) or any(c in word for c in "*?[")


TFDS_NAME = re.compile(r"[a-z]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?")
NAMES: dict[str, type[Flags]] = {"captioned_scenes": SceneFlags, "raven": RavenFlags, "emoji": EmojiFlags}
