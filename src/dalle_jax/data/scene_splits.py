"""Which combinations the splits of `captioned_scenes` may hold: explicit lists, so that anyone can check what is new.

  train, valid   no withheld combination (valid: unseen scenes of the combinations of train)
  test           one object of each scene makes up, with the background, a withheld (shape, colour, size, texture,
                 background); every (shape, colour) of this split occurs in train
  test_pairs     one object of each scene is a (shape, colour) that train never shows, in any size or texture

A caption of a withheld combination always names it in full (`in_full`): "a red circle" alone would ask for nothing new.
"""

import functools

from dalle_jax.data import scenes

SPLITS = ("train", "valid", "test", "test_pairs")
WITHHELD = (
  ("circle", "red", "small", "solid", "gray"),
  ("circle", "green", "large", "striped", "white"),
  ("circle", "yellow", "large", "striped", "beige"),
  ("circle", "pink", "small", "striped", "white"),
  ("circle", "cyan", "small", "solid", "gray"),
  ("square", "red", "large", "striped", "white"),
  ("square", "green", "large", "solid", "beige"),
  ("square", "blue", "small", "striped", "beige"),
  ("square", "yellow", "small", "solid", "gray"),
  ("triangle", "red", "small", "striped", "beige"),
  ("triangle", "blue", "large", "solid", "white"),
  ("triangle", "yellow", "small", "solid", "white"),
  ("triangle", "pink", "large", "solid", "gray"),
  ("cross", "red", "small", "solid", "beige"),
  ("cross", "green", "large", "solid", "beige"),
  ("cross", "blue", "small", "striped", "gray"),
  ("cross", "yellow", "large", "striped", "gray"),
  ("cross", "pink", "large", "striped", "gray"),
  ("cross", "cyan", "small", "striped", "white"),
  ("heart", "green", "small", "striped", "white"),
  ("heart", "blue", "large", "striped", "gray"),
  ("heart", "yellow", "large", "solid", "white"),
  ("heart", "pink", "small", "solid", "beige"),
  ("heart", "cyan", "large", "solid", "beige"),
)
WITHHELD_PAIRS = (
  ("circle", "blue"),
  ("triangle", "green"),
  ("heart", "red"),
)


def novelty(kind: tuple[str, str, str, str], background: str) -> str:
  """Where this (shape, colour, size, texture) may stand before this background: "train", "test" or "test_pairs"."""
  if kind[:2] in WITHHELD_PAIRS:
    return "test_pairs"
  return "test" if (*kind, background) in WITHHELD else "train"


def in_full(kind: tuple[str, str, str, str], background: str) -> bool:
  """Whether a caption of this object must say its size, its texture and the background."""
  return novelty(kind, background) == "test"


@functools.cache
def kinds(part: str, background: str) -> tuple[tuple[str, str, str, str], ...]:
  """All kinds of object whose novelty before this background is `part`."""
  return tuple(kind for kind in scenes.all_kinds() if novelty(kind, background) == part)
