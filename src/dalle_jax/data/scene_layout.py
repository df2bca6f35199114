"""Draws a scene at random: which objects, in which relations, and where. Centres are continuous and objects never
overlap unless one is inside the other.

Relations in space, A before B. Left of, above: a gap of at least GAP units along one axis, and at most SHIFT between
the centres along the other. On top of: A's lowest point is as high as B's highest, the centres nearly in a column.
Inside: A small, B large and solid, a wall of at least WALL units around A.
"""

import functools
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


def sample(rng: random.Random, *, count: int, split: str) -> scenes.Scene:
  """A scene of `count` objects that belongs to `split` (see `scene_splits`). The same generator state, the same scene.

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
    kinds = _kinds(rng, count, relations, split)
    if kinds is None:
      continue
    for _ in range(4):  # a few layouts before other objects are tried, or large beside large would be rarer still
      centres = _centres(rng, kinds, names)
      if centres is not None:
        objects = tuple(_object(kind, centre) for kind, centre in zip(kinds, centres))
        return scenes.Scene(background=_pick(rng, tuple(scenes.BACKGROUNDS)), objects=objects, relations=relations)


def _pick(rng: random.Random, values):
  return values[int(rng.random() * len(values))]


def _object(kind, centre=(0.0, 0.0)) -> scenes.Object:
  shape, colour, size, texture = kind
  return scenes.Object(shape=shape, colour=colour, size=size, texture=texture, centre=centre)


def _kinds(rng, count, relations, split):
  """The kind of each object, or None if this draw has two of a colour or an inner object that its outer can't hold."""
  new = _pick(rng, range(count)) if split in ("test", "test_pairs") else None
  kinds = []
  for i in range(count):
    roles = tuple(
      (name, "first" if i == first else "second") for first, name, second in relations if i in (first, second)
    )
    choice = _candidates(split if i == new else "train", roles)
    if not choice:
      return None
    kinds.append(_pick(rng, choice))
  if len({kind[1] for kind in kinds}) < count:
    return None
  if any(name == "inside" and kinds[a][0] not in CONTAINS[kinds[b][0]] for a, name, b in relations):
    return None
  return kinds


@functools.cache
def _candidates(part: str, roles) -> tuple:
  """The kinds of `part` that can play all these roles."""

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

  return tuple(kind for kind in scene_splits.kinds(part) if fits(kind))


def _centres(rng, kinds, names):
  """Centres inside the frame, or None if this layout does not fit."""
  boxes = [None] * len(kinds)
  last = len(kinds) - 1
  halves = [_object(kind).half_extents for kind in kinds]
  boxes[last] = _box((0.0, 0.0), halves[last])
  clear = boxes[last]  # what the next object must keep clear of: the container, if the object itself is inside one
  for i in reversed(range(last)):
    centre = _beside(rng, halves[i], boxes[i + 1], clear, names[i])
    boxes[i] = _box(centre, halves[i])
    clear = clear if names[i] == "inside" else boxes[i]
  if len(boxes) == 3 and not _apart(boxes[0], boxes[2]):
    return None
  left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
  free_x = scenes.FRAME - 2 * MARGIN - (max(b[2] for b in boxes) - left)
  free_y = scenes.FRAME - 2 * MARGIN - (max(b[3] for b in boxes) - top)
  if free_x < 0 or free_y < 0:
    return None
  x, y = MARGIN - left + rng.random() * free_x, MARGIN - top + rng.random() * free_y
  return [(round((b[0] + b[2]) / 2 + x, 3), round((b[1] + b[3]) / 2 + y, 3)) for b in boxes]


def _beside(rng, half, target: Box, clear: Box, name: str) -> tuple[float, float]:
  """Where an object of these half extents stands, in relation `name` to the object in box `target`."""
  x, y = (target[0] + target[2]) / 2, (target[1] + target[3]) / 2
  gap, shift = GAP + 7 * rng.random() ** 2, SHIFT * (2 * rng.random() - 1)
  if name == "left of":
    return clear[0] - gap - half[0], y + shift
  if name == "above":
    return x + shift, clear[1] - gap - half[1]
  if name == "on top of":
    return x + shift / 5, clear[1] - half[1]
  slack = 0.3  # inside: the wall is thinnest at the inner object's corners, so it may move only a little
  return x + slack * (2 * rng.random() - 1), y + slack * (2 * rng.random() - 1)


def _box(centre, half) -> Box:
  return centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]


def _apart(a: Box, b: Box) -> bool:
  return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) >= GAP / 2
