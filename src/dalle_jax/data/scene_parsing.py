"""Captions of scenes read back: what a caption in the templates' own words claims (`scene_captions` turned round).

    caption   [BACKGROUND,] [there is] THINGS [BACKGROUND]
    things    a thing; two joined by a relation; a third one joined to either, which may be named again shortly
    a thing   a small striped red circle, a circle that is red, a red circle that is small, one striped circle in red

Whatever is not of this form says nothing that can be judged.
"""

import re

from dalle_jax.data import scene_captions, scenes


def _canonical(words: dict[str, tuple[str, ...]]) -> dict[str, str]:
  return {word: name for name, known in words.items() for word in known}


def _any(words) -> str:
  return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


SHAPE, SIZE = _canonical(scene_captions.SHAPE_WORDS), _canonical(scene_captions.SIZE_WORDS)
TEXTURE = _canonical(scene_captions.TEXTURE_WORDS)
FORWARD, BACKWARD = _canonical(scene_captions.FORWARD), _canonical(scene_captions.BACKWARD)

_size, _texture, _colour = (f"(?:{_any(words)})" for words in (SIZE, TEXTURE, scenes.COLOURS))
THING = re.compile(
  rf"(?P<article>a|one|the) (?P<before>(?:(?:{_size}|{_texture}|{_colour}) )*)(?P<shape>{_any(SHAPE)})\b"
  rf"(?P<after>(?: that is| in)(?: and)?(?: (?:{_size}|{_texture}|{_colour})\b(?: and)?)+)?"
)
BACKGROUND = "|".join(form.format(f"(?:{_any(scenes.BACKGROUNDS)})") for form in scene_captions.BACKGROUND_WORDS)
OPENING = re.compile(rf"^(?:{_any(word for word in scene_captions.OPENINGS if word)})")
RELATION = re.compile(rf"(?:, and )?(?: ?that is)? ?(?P<name>{_any([*FORWARD, *BACKWARD, 'with'])}) ")


def parse(caption: str) -> scenes.Claims | None:
  """What a caption claims; None where it is not of the templates' form, or contradicts itself."""
  background, text = _background(caption)
  text = OPENING.sub("", text)
  objects: list[scenes.ObjectClaim] = []
  relations: list[tuple[int, str, int]] = []
  first, text = _thing(text, objects)
  while first is not None and text:
    if text.startswith(", and "):
      first, text = _thing(text.removeprefix(", and "), objects)
      if first is None:
        return None
    joined = RELATION.match(text)
    if joined is None:
      return None
    name, (second, text) = joined["name"], _thing(text[joined.end() :], objects)
    if second is None:
      return None
    if name == "with":
      ending = next((end for end in (" inside", " on top") if text.startswith(end)), None)
      if ending is None:
        return None
      text, name = text.removeprefix(ending), {" inside": "inside", " on top": "on top of"}[ending]
      relations.append((second, name, first))
    elif name in FORWARD:
      relations.append((first, FORWARD[name], second))
    else:
      relations.append((second, BACKWARD[name], first))
    first = second
  if first is None or len(objects) > 3 or len(relations) != len(objects) - 1:
    return None
  return _in_order(objects, relations, background)


def _background(caption: str) -> tuple[str | None, str]:
  """What is said of the background, and the rest."""
  found = re.match(rf"^({BACKGROUND}), ", caption) or re.search(rf" ({BACKGROUND})$", caption)
  if found is None:
    return None, caption
  name = next(name for name in scenes.BACKGROUNDS if re.search(rf"\b{name}\b", found[1]))
  return name, caption[: found.start()] + caption[found.end() :]


def _thing(text: str, objects: list[scenes.ObjectClaim]) -> tuple[int | None, str]:
  """The number of the object that the text begins with, which is added unless it is named again, and the rest."""
  found = THING.match(text)
  if found is None:
    return None, text
  words = (found["before"] + (found["after"] or "")).split()
  said = {
    "colour": [word for word in words if word in scenes.COLOURS],
    "size": [SIZE[word] for word in words if word in SIZE],
    "texture": [TEXTURE[word] for word in words if word in TEXTURE],
  }
  if len(said["colour"]) != 1 or len(said["size"]) > 1 or len(said["texture"]) > 1:
    return None, text
  claim = scenes.ObjectClaim(
    shape=SHAPE[found["shape"]],
    colour=said["colour"][0],
    size=(said["size"] or [None])[0],
    texture=(said["texture"] or [None])[0],
  )
  rest = text[found.end() :]
  if found["article"] == "the":
    again = [i for i, each in enumerate(objects) if (each.shape, each.colour) == (claim.shape, claim.colour)]
    return (again[0] if again else None), rest
  objects.append(claim)
  return len(objects) - 1, rest


def _in_order(
  objects: list[scenes.ObjectClaim], relations: list[tuple[int, str, int]], background: str | None
) -> scenes.Claims | None:
  """The claims with their objects from the first of the relations' chain to its last, as scenes have them."""
  after = {a: (name, b) for a, name, b in relations}
  at = next((i for i in range(len(objects)) if i not in {b for _, _, b in relations}), None)
  chain = []
  while at is not None and at not in chain:
    chain.append(at)
    at = after[at][1] if at in after else None
  if len(chain) != len(objects):
    return None
  names = [after[i][0] for i in chain[:-1]]
  return scenes.Claims(
    objects=tuple(objects[i] for i in chain),
    relations=tuple((i, name, i + 1) for i, name in enumerate(names)),
    background=background,
  )
