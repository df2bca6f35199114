"""Words for scenes: templates and synonyms, lower-case, each caption a function of (scene, seed).

Shape and colour of every object, and every relation, are always said; size and texture nearly always, the background
often, and all of a withheld combination (`scene_splits.in_full`). What is said is right, and is returned as claims.
"""

import random

from dalle_jax.data import scene_splits, scenes

SAID = {"size": 0.95, "texture": 0.95, "background": 0.7}  # probabilities
SHAPE_WORDS = {
  "circle": ("circle", "circle", "disc"),
  "square": ("square", "square", "box"),
  "triangle": ("triangle",),
  "cross": ("cross", "cross", "plus"),
  "heart": ("heart",),
}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
TEXTURE_WORDS = {"solid": ("solid", "plain"), "striped": ("striped",)}
BACKGROUND_WORDS = ("on a {} background", "on {}", "against a {} background", "in front of {}")
OPENINGS = ("", "", "there is ", "a picture of ", "here is ")
FORWARD = {
  "left of": ("left of", "to the left of"),
  "above": ("above",),
  "on top of": ("on top of", "resting on", "standing on"),
  "inside": ("inside", "within"),
}
BACKWARD = {  # the second object is named first
  "left of": ("right of", "to the right of"),
  "above": ("below", "under"),
  "on top of": ("supporting", "carrying"),
  "inside": ("around", "containing"),
}


def caption(scene: scenes.Scene, seed: int) -> tuple[str, scenes.Claims]:
  """A caption of the scene, at most 30 words, and what it claims."""
  rng = random.Random(seed)
  claims = _what_to_say(rng, scene)
  if len(scene.objects) == 1:
    text = _pick(rng, OPENINGS) + _single(rng, claims.objects[0])
  elif len(scene.objects) == 2:
    text = _pick(rng, OPENINGS) + _pair(rng, claims)
  else:
    text = _chain(rng, claims)
  if claims.background is not None:
    background = _pick(rng, BACKGROUND_WORDS).format(claims.background)
    text = f"{background}, {text}" if rng.random() < 0.2 else f"{text} {background}"
  return text, claims


def _pick(rng: random.Random, values):
  return values[int(rng.random() * len(values))]


def _what_to_say(rng, scene) -> scenes.Claims:
  objects, in_full = [], [scene_splits.in_full(each.kind, scene.background) for each in scene.objects]
  for each, must in zip(scene.objects, in_full):
    said = {name: must or rng.random() < SAID[name] for name in ("size", "texture")}
    objects.append(
      scenes.ObjectClaim(
        shape=each.shape,
        colour=each.colour,
        size=each.size if said["size"] else None,
        texture=each.texture if said["texture"] else None,
      )
    )
  background = scene.background if any(in_full) or rng.random() < SAID["background"] else None
  return scenes.Claims(objects=tuple(objects), relations=scene.relations, background=background)


def _words(rng, claim, article="a") -> str:
  """ "a small striped red circle" """
  words = [article]
  if claim.size is not None:
    words.append(_pick(rng, SIZE_WORDS[claim.size]))
  if claim.texture is not None:
    words.append(_pick(rng, TEXTURE_WORDS[claim.texture]))
  return " ".join([*words, claim.colour, _pick(rng, SHAPE_WORDS[claim.shape])])


def _single(rng, claim) -> str:
  """The same in other orders: "a red circle that is small and striped", "one striped circle, small and red"."""
  form = rng.random()
  if form < 0.6:
    return _words(rng, claim)
  shape = _pick(rng, SHAPE_WORDS[claim.shape])
  size = [_pick(rng, SIZE_WORDS[claim.size])] if claim.size is not None else []
  texture = [_pick(rng, TEXTURE_WORDS[claim.texture])] if claim.texture is not None else []
  if form < 0.75 and size + texture:
    return f"a {claim.colour} {shape} that is {' and '.join(size + texture)}"
  if form < 0.9:
    return " ".join(["a", *size, *texture, shape, "that is", claim.colour])
  return " ".join(["one", *texture, shape, "in", claim.colour, *([f"and {size[0]}"] if size else [])])


def _pair(rng, claims) -> str:
  (_, name, _), (a, b) = claims.relations[0], claims.objects
  if rng.random() < 0.35:
    return f"{_words(rng, b)} {_pick(rng, BACKWARD[name])} {_words(rng, a)}"
  if name == "inside" and rng.random() < 0.3:
    return f"{_words(rng, b)} with {_words(rng, a)} inside"
  if name == "on top of" and rng.random() < 0.3:
    return f"{_words(rng, b)} with {_words(rng, a)} on top"
  return f"{_words(rng, a)} {_pick(rng, FORWARD[name])} {_words(rng, b)}"


def _chain(rng, claims) -> str:
  """Three objects in two relations; the middle one is named in both, the second time shortly."""
  a, b, c = (_words(rng, claim) for claim in claims.objects)
  (_, first, _), (_, second, _) = claims.relations
  middle = claims.objects[1]
  again = f"the {middle.colour} {_pick(rng, SHAPE_WORDS[middle.shape])}"
  form = rng.random()
  if form < 0.35:
    return f"{a} {_pick(rng, FORWARD[first])} {b} that is {_pick(rng, FORWARD[second])} {c}"
  if form < 0.65:
    return f"{a} {_pick(rng, FORWARD[first])} {b}, and {again} {_pick(rng, FORWARD[second])} {c}"
  if form < 0.85:
    return f"{b} {_pick(rng, FORWARD[second])} {c}, and {a} {_pick(rng, FORWARD[first])} {again}"
  return f"{c} {_pick(rng, BACKWARD[second])} {b} that is {_pick(rng, BACKWARD[first])} {a}"
