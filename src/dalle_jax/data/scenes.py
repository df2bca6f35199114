"""The world of `captioned_scenes`: what a scene is, what can be claimed of it, and both as JSON.

A scene is a background and one to three objects of different colours. The frame is 32 units wide whatever the picture's
size; centres are whole pixels of the picture that is drawn. Relations join consecutive objects and say
where the first stands: (0, "left of", 1) means object 0 is left of object 1. An object's centre is its box's centre.
"""

import dataclasses
import itertools
import json
from typing import Any

FRAME = 32.0
SHAPES = ("circle", "square", "triangle", "cross", "heart")
COLOURS = {
  "red": (222, 30, 35),
  "green": (25, 155, 50),
  "blue": (40, 80, 240),
  "yellow": (250, 205, 0),
  "pink": (255, 85, 195),
  "cyan": (0, 205, 225),
}
STRIPE = (22, 22, 22)
SIZES = ("small", "large")
TEXTURES = ("solid", "striped")
BACKGROUNDS = {"white": (245, 245, 245), "gray": (135, 135, 135), "beige": (225, 195, 150)}
RELATIONS = ("left of", "above", "on top of", "inside")

LARGE = 1.55  # a large object's width over a small one's
HALF_EXTENTS = {
  "circle": (4.1, 4.1),
  "square": (3.65, 3.65),
  "triangle": (4.6, 4.2),
  "cross": (4.5, 4.5),
  "heart": (4.5, 4.02),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Object:
  shape: str
  colour: str
  size: str
  texture: str
  centre: tuple[float, float] = (FRAME / 2, FRAME / 2)

  @property
  def kind(self) -> tuple[str, str, str, str]:
    return self.shape, self.colour, self.size, self.texture

  @property
  def half_extents(self) -> tuple[float, float]:
    """Half the width and half the height of its box, in units."""
    scale = LARGE if self.size == "large" else 1.0
    x, y = HALF_EXTENTS[self.shape]
    return x * scale, y * scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  background: str
  objects: tuple[Object, ...]
  relations: tuple[tuple[int, str, int], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectClaim:
  """What a caption says of one object; None is unsaid, and then anything is right."""

  shape: str
  colour: str
  size: str | None = None
  texture: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claims:
  """All that a caption says. The number of objects is always claimed."""

  objects: tuple[ObjectClaim, ...]
  relations: tuple[tuple[int, str, int], ...] = ()
  background: str | None = None


def all_kinds() -> tuple[tuple[str, str, str, str], ...]:
  """Every (shape, colour, size, texture)."""
  return tuple(itertools.product(SHAPES, COLOURS, SIZES, TEXTURES))


def to_attributes(scene: Scene, claims: tuple[Claims, ...]) -> str:
  """The `attributes` text of an example: the scene, and the claims of each of its captions in their order."""
  return json.dumps(
    {"scene": dataclasses.asdict(scene), "claims": [dataclasses.asdict(claim) for claim in claims]}, sort_keys=True
  )


def scene_of(attributes: str) -> Scene:
  """The scene in an `attributes` text."""
  value = json.loads(attributes)["scene"]
  objects = tuple(Object(**{**each, "centre": tuple(each["centre"])}) for each in value["objects"])
  return Scene(background=value["background"], objects=objects, relations=_relations(value))


def claims_of(attributes: str) -> tuple[Claims, ...]:
  """The claims in an `attributes` text, one for each caption."""
  return tuple(
    Claims(
      objects=tuple(ObjectClaim(**each) for each in value["objects"]),
      relations=_relations(value),
      background=value["background"],
    )
    for value in json.loads(attributes)["claims"]
  )


def everything_about(scene: Scene) -> Claims:
  """The claims of a caption that leaves nothing unsaid."""
  objects = tuple(ObjectClaim(shape=o.shape, colour=o.colour, size=o.size, texture=o.texture) for o in scene.objects)
  return Claims(objects=objects, relations=scene.relations, background=scene.background)


def _relations(value: dict[str, Any]) -> tuple[tuple[int, str, int], ...]:
  return tuple((int(first), str(name), int(second)) for first, name, second in value["relations"])
