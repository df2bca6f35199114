"""What the Unicode CLDR calls each emoji: a name and keywords, in over a hundred languages.

    FOLDER/annotations/LANGUAGE.xml           single characters
    FOLDER/annotationsDerived/LANGUAGE.xml    sequences: skin tones, professions, flags, ...

The files leave out U+FE0F; fonts draw the sequences without it.
"""

import dataclasses
import difflib
from pathlib import Path
from xml.etree import ElementTree

from dalle_jax.errors import UserError

INSTALL = "`apt-get install fonts-noto-color-emoji unicode-cldr-core`, or name files with --font, --annotations"
PARTS = ("annotations", "annotationsDerived")
INHERITED = "↑↑↑"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotation:
  """An emoji as text, its name, and its keywords."""

  text: str
  name: str
  keywords: tuple[str, ...]

  @property
  def key(self) -> str:
    """Its code points: "1f9d1-1f3ff-200d-2696"."""
    return "-".join(f"{ord(c):x}" for c in self.text)

  @property
  def captions(self) -> tuple[str, ...]:
    """The name, and the name with those keywords that are not in it."""
    more = [word for word in self.keywords if word.casefold() not in self.name.casefold()]
    return (self.name, ", ".join([self.name, *more])) if more else (self.name,)


def read(folder: Path, language: str) -> tuple[Annotation, ...]:
  """All that is named in a language, in the order of the files.

  Raises UserError when the folder or the language is not there, or a file can't be read.
  """
  if not (folder / PARTS[0]).is_dir():
    raise UserError(f"no emoji names in {folder}: {INSTALL}")
  names: dict[str, str] = {}
  keywords: dict[str, tuple[str, ...]] = {}
  wanted = language.replace("-", "_")
  if not (folder / PARTS[0] / f"{wanted}.xml").is_file():
    raise UserError(_unknown(folder, language))
  for each in reversed(_chain(wanted)):
    for part in PARTS:
      _merge(folder / part / f"{each}.xml", names, keywords)
  return tuple(Annotation(text=text, name=name, keywords=keywords.get(text, ())) for text, name in names.items())


def languages(folder: Path) -> list[str]:
  """The languages that the folder has names in."""
  return sorted(file.stem for file in (folder / PARTS[0]).glob("*.xml") if file.stem != "root")


def _chain(language: str) -> list[str]:
  """The language and those it leaves things to: en_AU, en. Another script is another language: zh_Hant alone."""
  parts = language.split("_")
  least = 2 if len(parts) > 1 and len(parts[1]) == 4 else 1
  return ["_".join(parts[:n]) for n in range(len(parts), least - 1, -1)]


def _merge(file: Path, names: dict[str, str], keywords: dict[str, tuple[str, ...]]) -> None:
  if not file.is_file():
    return
  try:
    root = ElementTree.parse(file).getroot()
  except (ElementTree.ParseError, OSError) as error:
    raise UserError(f"cannot read the emoji names in {file}: {' '.join(str(error).split())[:80]}") from error
  for each in root.iter("annotation"):
    text, said = each.get("cp"), (each.text or "").strip()
    if not text or not said or said == INHERITED:
      continue
    if each.get("type") == "tts":
      names[text] = said
    else:
      keywords[text] = tuple(dict.fromkeys(word.strip() for word in said.split("|") if word.strip()))


def _unknown(folder: Path, language: str) -> str:
  known = languages(folder)
  close = difflib.get_close_matches(language, known, n=1)
  hint = f"did you mean {close[0]!r}?" if close else f"it has {len(known)}: {', '.join(known[:6])}, ..."
  return f"no emoji names in the language {language!r} in {folder}; {hint}"
