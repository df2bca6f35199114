"""Which combinations the splits of `captioned_scenes` may hold: explicit lists, so that anyone can check what is new.

  train, valid   no withheld combination (valid: unseen scenes of the combinations of train)
  test           one object of each scene is a withheld (shape, colour, size or texture); every (shape, colour) of this
                 split occurs in train, as do all other objects of the scene
  test_pairs     one object of each scene is a (shape, colour) that train never shows, in any size or texture

A caption of a withheld combination always says the word that makes it one (`must_say`): "a red circle" alone would ask
for nothing new.
"""

import functools

from dalle_jax.data import scenes

SPLITS = ("train", "valid", "test", "test_pairs")
WITHHELD = (
  ("circle", "red", "large"),
  ("square", "green", "small"),
  ("triangle", "yellow", "large"),
  ("cross", "cyan", "small"),
  ("heart", "pink", "large"),
  ("heart", "blue", "small"),
  ("circle", "pink", "striped"),
  ("square", "red", "solid"),
  ("triangle", "cyan", "striped"),
  ("cross", "yellow", "striped"),
  ("heart", "green", "solid"),
  ("circle", "yellow", "solid"),
)
WITHHELD_PAIRS = (
  ("circle", "blue"),
  ("square", "cyan"),
  ("triangle", "green"),
  ("cross", "pink"),
  ("heart", "red"),
)


def novelty(kind: tuple[str, str, str, str]) -> str:
  """Where an object of this (shape, colour, size, texture) may stand out: "train", "test" or "test_pairs"."""
  shape, colour, size, texture = kind
  if (shape, colour) in WITHHELD_PAIRS:
    return "test_pairs"
  if (shape, colour, size) in WITHHELD or (shape, colour, texture) in WITHHELD:
    return "test"
  return "train"


def must_say(kind: tuple[str, str, str, str]) -> frozenset[str]:
  """The attributes, of "size" and "texture", that a caption of this object may not leave out."""
  shape, colour, size, texture = kind
  said = {"size": size, "texture": texture}
  return frozenset(name for name, word in said.items() if (shape, colour, word) in WITHHELD)


@functools.cache
def kinds(part: str) -> tuple[tuple[str, str, str, str], ...]:
  """All kinds of object whose novelty is `part`."""
  return tuple(kind for kind in scenes.all_kinds() if novelty(kind) == part)
