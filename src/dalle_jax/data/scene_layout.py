"""Draws a scene at random: which objects, in which relations, and where. Centres are at any whole pixel and objects
never overlap unless one is inside the other.

Relations in space, A before B. Left of, above: a gap of at least GAP units along one axis, and about SHIFT at most
between the centres along the other. On top of: A's lowest point is as high as B's highest or less than a pixel higher,
the centres nearly in a column. Inside: A small, B large and solid, a wall of at least WALL units around A.
"""

import functools
import math
import random

from dalle_jax.data import scene_splits, scenes
from dalle_jax.errors import UserError

MARGIN = 0.75  # units kept free along the frame
GAP = 2.0
SHIFT = 5.0
WALL = 0.75
SUPPORTS = ("circle", "square", "cross")  # something can rest on these: no tip, no notch
CONTAINS = {"square": scenes.SHAPES, "circle": ("circle", "cross", "heart")}  # outer: which inner leave a wall
CHAINS = tuple(
  (first, second)
  for first in scenes.RELATIONS
  for second in scenes.RELATIONS
  if not (
    second == "inside" and first in ("inside", "on top of")
  )  # the middle object would be small and large, or walled in
)

Box = tuple[float, float, float, float]  # left, top, right, bottom


def sample(rng: random.Random, *, count: int, split: str, pixel: float = 1.0) -> scenes.Scene:
  """A scene of `count` objects that belongs to `split` (see `scene_splits`). The same generator state, the same scene.

  pixel: a pixel's side in units, of which all centres are multiples.

  Raises:
    UserError: no such split, or a count other than 1, 2, 3.
  """
  if split not in scene_splits.SPLITS:
    raise UserError(f"got split {split!r}, wanted one of {', '.join(scene_splits.SPLITS)}")
  if count not in (1, 2, 3):
    raise UserError(f"got {count} objects, wanted 1, 2 or 3")
  names = {1: (), 2: (_pick(rng, scenes.RELATIONS),), 3: _pick(rng, CHAINS)}[count]
  relations = tuple((i, name, i + 1) for i, name in enumerate(names))
  while True:
    background = _pick(rng, tuple(scenes.BACKGROUNDS))
    kinds = _kinds(rng, count, relations, split, background)
    if kinds is None:
      continue
    for _ in range(4):  # a few layouts before other objects are tried, or large beside large would be rarer still
      centres = _centres(rng, kinds, names, pixel)
      if centres is not None:
        objects = tuple(_object(kind, centre) for kind, centre in zip(kinds, centres))
        return scenes.Scene(background=background, objects=objects, relations=relations)


def _pick(rng: random.Random, values):
  return values[int(rng.random() * len(values))]


def _object(kind, centre=(0.0, 0.0)) -> scenes.Object:
  shape, colour, size, texture = kind
  return scenes.Object(shape=shape, colour=colour, size=size, texture=texture, centre=centre)


def _kinds(rng, count, relations, split, background):
  """The kind of each object, or None if this draw has two of a colour or an inner object that its outer can't hold."""
  new = _pick(rng, range(count)) if split in ("test", "test_pairs") else None
  kinds = []
  for i in range(count):
    roles = tuple(
      (name, "first" if i == first else "second") for first, name, second in relations if i in (first, second)
    )
    choice = _candidates(split if i == new else "train", background, roles)
    if not choice:
      return None
    kinds.append(_pick(rng, choice))
  if len({kind[1] for kind in kinds}) < count:
    return None
  if any(name == "inside" and kinds[a][0] not in CONTAINS[kinds[b][0]] for a, name, b in relations):
    return None
  return kinds


@functools.cache
def _candidates(part: str, background: str, roles) -> tuple:
  """The kinds of `part` before this background that can play all these roles."""

  def fits(kind):
    shape, _, size, texture = kind
    for role in roles:
      if role == ("inside", "first") and size != "small":
        return False
      if role == ("inside", "second") and not (size == "large" and texture == "solid" and shape in CONTAINS):
        return False
      if role == ("on top of", "second") and shape not in SUPPORTS:
        return False
    return True

  return tuple(kind for kind in scene_splits.kinds(part, background) if fits(kind))


def _centres(rng, kinds, names, pixel):
  """Centres inside the frame, or None if this layout does not fit."""
  boxes = [None] * len(kinds)
  last = len(kinds) - 1
  halves = [_object(kind).half_extents for kind in kinds]
  boxes[last] = _box((0.0, 0.0), halves[last])
  clear = boxes[last]  # what the next object must keep clear of: the container, if the object itself is inside one
  for i in reversed(range(last)):
    centre = _beside(rng, halves[i], boxes[i + 1], clear, names[i], pixel)
    boxes[i] = _box(centre, halves[i])
    clear = clear if names[i] == "inside" else boxes[i]
  if len(boxes) == 3 and not _apart(boxes[0], boxes[2]):
    return None
  x = _shift(rng, min(b[0] for b in boxes), max(b[2] for b in boxes), pixel)
  y = _shift(rng, min(b[1] for b in boxes), max(b[3] for b in boxes), pixel)
  if x is None or y is None:
    return None
  return [((b[0] + b[2]) / 2 + x, (b[1] + b[3]) / 2 + y) for b in boxes]


def _shift(rng, low, high, pixel):
  """By how much what reaches from `low` to `high` may move to lie in the frame, at random; None if it is too long."""
  first, last = math.ceil((MARGIN - low) / pixel), math.floor((scenes.FRAME - MARGIN - high) / pixel)
  return _pick(rng, range(first, last + 1)) * pixel if first <= last else None


def _beside(rng, half, target: Box, clear: Box, name: str, pixel: float) -> tuple[float, float]:
  """Where an object of these half extents stands, in relation `name` to the object in box `target`.

  The step along a relation's axis is rounded away from the other object, so that none comes too near.
  """
  x, y = (target[0] + target[2]) / 2, (target[1] + target[3]) / 2
  gap, shift = GAP + 7 * rng.random() ** 2, SHIFT * (2 * rng.random() - 1)
  clear_of = lambda edge: math.floor(edge / pixel) * pixel  # noqa: E731
  near = lambda at: round(at / pixel) * pixel  # noqa: E731
  if name == "left of":
    return clear_of(clear[0] - gap - half[0]), near(y + shift)
  if name == "above":
    return near(x + shift), clear_of(clear[1] - gap - half[1])
  if name == "on top of":
    return near(x + shift / 5), clear_of(clear[1] - half[1])
  return x, y  # inside: the wall is thinnest at the inner object's corners, so it stands in the middle


def _box(centre, half) -> Box:
  return centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]


def _apart(a: Box, b: Box) -> bool:
  return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) >= GAP / 2
