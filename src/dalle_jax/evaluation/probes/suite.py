"""A suite of captions: templates with named slots, and words for each slot.

    Template(text="a {colour} clock", ...)      {colour} takes one of the slot's words
    "a {shape:adjective} frame"                 its adjective: pentagonal of pentagon
    "the texture of a {material}"               an article before a slot agrees with the word: an acorn, the moon, gold

Words that the blog's description states stand as they do there; where it gives a count alone they are ours, and say so.
"""

import dataclasses
import enum
import itertools
import re
import string
from collections.abc import Iterator

from dalle_jax.evaluation.probes.grammar import indefinite

ARTICLE = re.compile(r"\b(a|an|the) $")
ROWS = 32  # of codes, in the paper's pictures


class Category(enum.StrEnum):
  """The blog's headings, in its order, by the names that the command takes."""

  controlling_attributes = "controlling attributes"
  multiple_objects = "multiple objects"
  perspective = "perspective and three dimensions"
  structure = "internal and external structure"
  context = "contextual details"
  applications = "fashion and interior design"
  unrelated_concepts = "combining unrelated concepts"
  animals = "animal illustrations"
  reasoning = "zero-shot visual reasoning"
  geography = "geographic knowledge"
  time = "temporal knowledge"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word:
  """What a slot can hold. ours: not stated of the blog. article: in place of a, an or the before it ("": none)."""

  text: str
  ours: bool = False
  article: str | None = None
  adjective: str = ""


def stated(*texts: str, article: str | None = None) -> tuple[Word, ...]:
  """Words as the blog's description has them."""
  return tuple(Word(text=text, article=article) for text in texts)


def ours(*texts: str, article: str | None = None) -> tuple[Word, ...]:
  """Words of our own, where it gives only how many there are."""
  return tuple(Word(text=text, article=article, ours=True) for text in texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
  """A place in captions, and the words that it takes."""

  name: str
  words: tuple[Word, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A piece of a caption's text, and the slot it fills, if any."""

  text: str
  slot: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Template:
  """A caption with slots, each named in it once or more. distinct: slots whose words all differ; ours: as of words."""

  text: str
  slots: tuple[Slot, ...]
  distinct: tuple[str, ...] = ()
  ours: bool = False

  def __post_init__(self) -> None:
    named = dict.fromkeys(field for _, field, _, _ in string.Formatter().parse(self.text) if field is not None)
    if list(named) != [slot.name for slot in self.slots]:
      raise ValueError(f"got slots {[slot.name for slot in self.slots]}, wanted those of {self.text!r} in its order")
    for slot in self.slots:
      texts = [word.text for word in slot.words]
      if not texts or len(set(texts)) < len(texts):
        raise ValueError(f"the slot {slot.name} holds no word, or one of them twice")

  def allows(self, words: tuple[Word, ...]) -> bool:
    """Whether slots that want different words have them."""
    texts = [word.text for slot, word in zip(self.slots, words) if slot.name in self.distinct]
    return len(set(texts)) == len(texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
  """A template with a word in each of its slots."""

  template: Template
  words: tuple[Word, ...]

  @property
  def chosen(self) -> dict[str, Word]:
    """The word of each slot."""
    return {slot.name: word for slot, word in zip(self.template.slots, self.words)}

  def parts(self) -> tuple[Part, ...]:
    """The caption in pieces, articles agreeing with the words that follow them."""
    found, chosen = [], self.chosen
    for literal, name, form, _ in string.Formatter().parse(self.template.text):
      if name is None:
        found.append(Part(text=literal))
        continue
      text = chosen[name].adjective if form else chosen[name].text
      literal = ARTICLE.sub(lambda match, of=chosen[name], text=text: _article(match[1], of, text), literal)
      found += [Part(text=literal)] if literal else []
      found.append(Part(text=text, slot=name))
    return tuple(found)

  @property
  def text(self) -> str:
    """What is drawn."""
    return "".join(part.text for part in self.parts())


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePrompt:
  """The picture that a suite wants a part of. rows: of 32, given from the top; stated: whether the paper says so many.

  two_panels: whether the picture is first set into the upper half of a white square.
  """

  shows: str
  rows: int
  stated: bool = False
  two_panels: bool = False

  def rows_of(self, grid: int) -> int:
    """As large a part of a picture of `grid` rows of codes, at least one and not all of them."""
    return min(max(1, round(self.rows * grid / ROWS)), grid - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
  """One of the blog's figures. name: its samples' folder there; note: what was seen, in our words."""

  name: str
  category: Category
  templates: tuple[Template, ...]
  image_prompt: ImagePrompt | None = None
  note: str = ""

  def captions(self) -> Iterator[Caption]:
    """All of them: template by template, the last slot's words changing fastest."""
    for template in self.templates:
      for words in itertools.product(*(slot.words for slot in template.slots)):
        if template.allows(words):
          yield Caption(template=template, words=words)

  def __len__(self) -> int:
    return sum(1 for _ in self.captions())


def _article(article: str, word: Word, text: str) -> str:
  if word.article is not None:
    return f"{word.article} " if word.article else ""
  return "the " if article == "the" else f"{indefinite(text)} "
