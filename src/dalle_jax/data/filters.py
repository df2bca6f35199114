"""`--filters paper`: what the paper leaves out of its pictures from the web, a subset of Sharma et al. (2018).

The paper names the filters and not their thresholds: too short a caption, a language that is not English, mostly
boilerplate such as "photographed on <date>", an aspect ratio outside [1/2, 2]. The thresholds below are this program's.
"""

import dataclasses
import re

from dalle_jax.data.checks import Checked
from dalle_jax.data.language import Detector
from dalle_jax.data.source import Dropped

MONTH = (
  r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?"
  r"|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?)"
)
# One digit at a time: a repeated \d+ would take for ever over a long number.
TIME = rf"({MONTH}|\d|st|nd|rd|th|[\s,.:;/\-]|am|pm|at|of|the|utc|gmt)+"
MADE = r"(photo(graph)?|picture|image|pic|snapshot|screenshot|video still)?s?"
DONE = r"(photographed|taken|shot|captured|uploaded|posted|created|scanned|recorded|added|made)?"
BOILERPLATE = (
  re.compile(rf"(this )?{MADE}\s*(was |were )?{DONE}\s*(on|at|in|from|by)?\s*{TIME}"),
  re.compile(r"(img|dsc[nf]?|dscf|pict?|image|photo|picture|p|untitled|screenshot|scan|figure|fig)[\s_.\-#\d]*"),
  re.compile(r"[\w\-]+\.(jpe?g|png|gif|tiff?|bmp|webp)"),
  re.compile(r"(photo|image|picture)s? (by|courtesy|credit|copyright|via|source).{0,40}|(©|\(c\)|copyright).*"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filters:
  """What a picture and its captions must be. most_aspect: the longer side over the shorter; detector: of languages."""

  least_words: int = 3
  most_aspect: float = 2.0
  detector: Detector | None = None

  def reason(self, captions: tuple[str, ...], size: tuple[int, int]) -> str | None:
    """Why a picture of (width, height) pixels with these captions is left out, or None."""
    if max(size) > self.most_aspect * min(size):
      return "aspect ratio outside [1/2, 2]"
    reasons = [self.caption_reason(caption) for caption in captions]
    return None if None in reasons else reasons[0]

  def caption_reason(self, caption: str) -> str | None:
    """Why this caption is left out, or None."""
    if is_boilerplate(caption):
      return "caption is boilerplate"
    if len(caption.split()) < self.least_words:
      return "caption too short"
    if self.detector and self.detector.is_foreign(caption):
      return "caption is not English"
    return None

  def judged(self, example: Checked) -> Checked | Dropped:
    """The example with those of its captions that pass, or why it is left out; attributes speak of all captions."""
    reason = self.reason(example.captions, example.size)
    if reason:
      return Dropped(key=example.key, reason=reason, detail=example.captions[0][:200])
    if example.attributes:
      return example
    passing = tuple(caption for caption in example.captions if self.caption_reason(caption) is None)
    return dataclasses.replace(example, captions=passing)

  def describe(self) -> str:
    """What was applied, for the report."""
    language = f"English by {self.detector.name}" if self.detector else "language not looked at (no detector installed)"
    return f"at least {self.least_words} words, no boilerplate, aspect up to {self.most_aspect:g}, {language}"


def is_boilerplate(caption: str) -> bool:
  """Whether a caption says when or by whom a picture was made, or its file's name, and not what it shows."""
  text = " ".join(caption.casefold().split())
  return any(pattern.fullmatch(text) for pattern in BOILERPLATE)
