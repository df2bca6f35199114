"""Which language a caption is in, where a detector is installed: langdetect or lingua, neither of which is needed.

Detectors guess wildly at a few words, so short captions pass, and so does what is not clearly another language.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping

LEAST_LETTERS = 20  # of a caption whose language is judged
CLEARLY = 10  # times as likely as English


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
  """confidences: how likely a text is in each language, by ISO 639-1 code in lower case; those left out are at 0."""

  name: str
  confidences: Callable[[str], Mapping[str, float]]

  def is_foreign(self, text: str) -> bool:
    """Whether the text is clearly in another language than English."""
    if sum(c.isalpha() for c in text) < LEAST_LETTERS:
      return False
    found = self.confidences(text)
    return max(found.values(), default=0) > CLEARLY * found.get("en", 0)


def installed() -> Detector | None:
  """The first detector that is installed, or None."""
  for name, make in (("langdetect", _langdetect), ("lingua", _lingua)):
    if importlib.util.find_spec(name):
      return Detector(name=name, confidences=make())
  return None


def _langdetect() -> Callable[[str], Mapping[str, float]]:
  langdetect = importlib.import_module("langdetect")
  langdetect.DetectorFactory.seed = 0  # it draws at random otherwise

  def confidences(text: str) -> Mapping[str, float]:
    try:
      return {guess.lang: guess.prob for guess in langdetect.detect_langs(text)}
    except langdetect.LangDetectException:  # it finds nothing to go by
      return {}

  return confidences


def _lingua() -> Callable[[str], Mapping[str, float]]:
  lingua = importlib.import_module("lingua")
  detector = lingua.LanguageDetectorBuilder.from_all_languages().build()

  def confidences(text: str) -> Mapping[str, float]:
    found = detector.compute_language_confidence_values(text)
    return {each.language.iso_code_639_1.name.lower(): each.value for each in found}

  return confidences
