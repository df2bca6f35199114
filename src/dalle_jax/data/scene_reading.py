"""Pixels to a scene, by analysis and synthesis: what a picture shows, with no caption at hand.

  1. the background is the one that most pixels are nearest to;
  2. while what is drawn so far leaves patches of one of the six colours unexplained, the template that explains one of
     them best is added, and all objects found are placed again with the others drawn under and over them;
  3. objects that the picture would not miss are dropped and the rest placed finely. An object has a shape only if its
     template leaves little of it unexplained.

A picture larger than 32 pixels is averaged down first. Legend: B pictures, M objects, H W S pixels, C channels.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy import ndimage

from dalle_jax.data import scene_templates, scenes
from dalle_jax.data.scene_templates import COARSE, COARSE_LARGER, FINE, MEDIUM, REACH, SIDE, TEMPLATES, WINDOW

GAIN = 3.0  # squared error (colours in [0, 1]) that an object must save; the faintest whole object saves 8
UNCLEAR = 0.37  # an object whose template leaves more than this of its energy unexplained has no shape
STRICT = 3.0  # see `scene_templates.error_maps`
MOST = 6  # objects looked for in a picture
LEAST = 5  # pixels of a patch
UNEXPLAINED = 0.08  # squared error of a pixel
CHUNK = 64  # pictures read together, for the memory

_COLOURS = np.asarray(list(scenes.COLOURS.values()), np.float32) / 255
_BACKGROUNDS = np.asarray(list(scenes.BACKGROUNDS.values()), np.float32) / 255
_STRIPE = np.asarray(scenes.STRIPE, np.float32) / 255
_NOTHING, _BLACK = len(_COLOURS), len(_COLOURS) + 1  # labels of pixels, after those of the colours
_PIXEL_S = np.arange(SIDE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """An object in a picture. The shape is None where no template explains the pixels: a blob is not a circle."""

  shape: str | None
  colour: str
  size: str
  texture: str
  centre: tuple[float, float]
  half_extents: tuple[float, float]
  unexplained: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  background: str
  objects: tuple[Found, ...]


@dataclasses.dataclass(kw_only=True, eq=False)
class _Draft:
  """An object while it is being placed: one of TEMPLATES at a pixel."""

  picture: int
  colour: int
  at: np.ndarray  # (row, column)
  template: int = -1
  rim: bool = False  # its inside is not judged yet: something else is there
  score: float = 0.0
  gain: float = 0.0
  unexplained: float = 1.0
  u_SS: np.ndarray | None = None  # how much of each pixel its colour covers, and its stripes
  v_SS: np.ndarray | None = None

  def put(self, template: int, at: np.ndarray) -> None:
    self.rim = self.rim or TEMPLATES[template].rim
    if TEMPLATES[template].rim:
      template = TEMPLATES.index(TEMPLATES[template]._replace(rim=False))
    self.template, self.at = int(template), at
    placed_2PP = np.zeros((2, SIDE + 2 * REACH, SIDE + 2 * REACH), np.float32)
    for placed_PP, covers_TKK in zip(placed_2PP, scene_templates.covers()):
      placed_PP[at[0] : at[0] + WINDOW, at[1] : at[1] + WINDOW] = covers_TKK[template]
    self.u_SS, self.v_SS = placed_2PP[:, REACH:-REACH, REACH:-REACH]

  @property
  def area(self) -> float:
    return float(self.u_SS.sum() + self.v_SS.sum())


def read(images_BHWC: UInt8[np.ndarray, "B H W C"]) -> list[Reading]:
  """What each picture shows."""
  readings, coarse = [], COARSE if images_BHWC.shape[1] <= SIDE else COARSE_LARGER
  for start in range(0, len(images_BHWC), CHUNK):
    readings += _read(_to_side(images_BHWC[start : start + CHUNK]), coarse)
  return readings


def _to_side(images_BHWC) -> Float[np.ndarray, "B S S C"]:
  batch, height, width, _ = images_BHWC.shape
  if height == width and height % SIDE == 0:
    k = height // SIDE
    return images_BHWC.reshape(batch, SIDE, k, SIDE, k, 3).mean((2, 4), dtype=np.float32) / 255
  small = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)) for image in images_BHWC]
  return np.stack(small).astype(np.float32) / 255


def _read(pictures_BSSC, coarse) -> list[Reading]:
  backgrounds_B, labels_BSS = _label(pictures_BSSC)
  found = [[] for _ in pictures_BSSC]
  active = list(range(len(pictures_BSSC)))
  for _ in range(MOST):
    added = _most_missed(active, found, pictures_BSSC, backgrounds_B, labels_BSS, coarse)
    for draft in added:
      found[draft.picture].append(draft)
    active = [draft.picture for draft in added]
    _place([found[i] for i in active], pictures_BSSC, backgrounds_B, MEDIUM, 1.0)
  for drafts in found:
    for draft in drafts:
      draft.rim = False
  _place(found, pictures_BSSC, backgrounds_B, MEDIUM, 0.0)
  for drafts in found:
    drafts[:] = [d for d in drafts if d.gain >= GAIN]
  _place(found, pictures_BSSC, backgrounds_B, FINE, 0.0)
  names = list(scenes.BACKGROUNDS)
  return [
    Reading(background=names[b], objects=tuple(_found(d) for d in drafts if d.gain >= GAIN))
    for b, drafts in zip(backgrounds_B, found)
  ]


def _label(pictures_BSSC) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, "B S S"]]:
  """The background of each picture, and what each pixel is nearest to: a colour, the background, or black.

  Half-and-half mixtures with background and black count as the colour, so that outlines don't look like other colours.
  """
  nearest_BSS = _nearest(pictures_BSSC, np.concatenate([_BACKGROUNDS, _COLOURS, _STRIPE[None]]))
  backgrounds_B = (nearest_BSS[..., None] == np.arange(len(_BACKGROUNDS))).sum((1, 2)).argmax(1)
  labels_BSS = np.empty(nearest_BSS.shape, np.int64)
  colours = np.arange(len(_COLOURS))
  meaning = np.concatenate([[_NOTHING, _BLACK], colours, colours, colours, [_BLACK]])
  for background in np.unique(backgrounds_B):
    behind = _BACKGROUNDS[background]
    mixed = [behind[None], _STRIPE[None], _COLOURS, (_COLOURS + behind) / 2, (_COLOURS + _STRIPE) / 2]
    palette = np.concatenate([*mixed, (behind + _STRIPE)[None] / 2])
    rows = backgrounds_B == background
    labels_BSS[rows] = meaning[_nearest(pictures_BSSC[rows], palette)]
  return backgrounds_B, labels_BSS


def _nearest(pictures_BSSC, palette_PC):
  return ((palette_PC**2).sum(-1) - 2 * pictures_BSSC @ palette_PC.T).argmin(-1)


def _most_missed(active, found, pictures_BSSC, backgrounds_B, labels_BSS, coarse) -> list[_Draft]:
  """At most one new object for each active picture: the one of best score among those that save GAIN."""
  drawn = {i: _drawn(found[i], int(backgrounds_B[i])) for i in active}
  drafts = []
  for i in active:
    open_SS = ((pictures_BSSC[i] - drawn[i]) ** 2).sum(-1) > UNEXPLAINED
    drafts += [_Draft(picture=i, colour=colour, at=at) for colour, at in _patches(labels_BSS[i], open_SS)]
  if not drafts:
    return []
  picture_MSSC = pictures_BSSC[[d.picture for d in drafts]]
  base_MSSC = np.stack([drawn[d.picture] for d in drafts])
  weight_MSS = np.ones(base_MSSC.shape[:-1], np.float32)
  _put_best(drafts, picture_MSSC, base_MSSC, weight_MSS, 3, coarse, STRICT)
  best = {}
  for draft in drafts:
    if draft.gain >= GAIN and (draft.picture not in best or draft.score > best[draft.picture].score):
      best[draft.picture] = draft
  return list(best.values())


def _patches(labels_SS, open_SS) -> list[tuple[int, np.ndarray]]:
  """The colour and the box's centre of each connected patch of open pixels, and of each colour's patches together."""
  counts = np.bincount(labels_SS[open_SS], minlength=_BLACK + 1)
  patches = []
  for colour in np.flatnonzero(counts[:_NOTHING] >= LEAST):
    own_SS = open_SS & (labels_SS == colour)
    parts_SS, _ = ndimage.label(own_SS | (open_SS & (labels_SS == _BLACK)))
    sizes = np.bincount(parts_SS[own_SS])
    boxes = ndimage.find_objects(parts_SS)
    boxes = [boxes[part - 1] for part in np.flatnonzero(sizes >= LEAST)]
    if len(boxes) != 1:
      boxes += ndimage.find_objects(own_SS.astype(np.int64))
    for rows, columns in boxes:
      at = np.array([(rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2])
      patches.append((int(colour), at))
  return patches


def _put_best(drafts, picture_MSSC, base_MSSC, weight_MSS, radius, templates, strict) -> None:
  """Puts each draft where it scores best, and measures it there."""
  colour_MC = _COLOURS[[d.colour for d in drafts]]
  maps_MPPF = scene_templates.error_maps(picture_MSSC, base_MSSC, weight_MSS, colour_MC, strict)
  at_M2 = np.stack([d.at for d in drafts])
  rim_M = np.array([d.rim for d in drafts])
  placed = scene_templates.place(maps_MPPF, at_M2, radius=radius, templates=templates, container_M=rim_M)
  for draft, template, at, error, *scene in zip(drafts, *placed, picture_MSSC, base_MSSC, weight_MSS):
    draft.put(int(template), at)
    draft.score = -float(error)
    _measure(draft, *scene)


def _measure(draft, picture_SSC, base_SSC, weight_SS) -> None:
  """What the object saves, what part of its energy it leaves, and the colour nearest to the least-squares ink."""
  if draft.rim:
    row, column = draft.at
    weight_SS = weight_SS * (np.hypot(_PIXEL_S - column, _PIXEL_S[:, None] - row) > scene_templates.OPEN)
  cover_SS = draft.u_SS + draft.v_SS
  rest_SSC = picture_SSC - base_SSC * (1 - cover_SS)[..., None] - draft.v_SS[..., None] * _STRIPE
  own_SS = weight_SS * draft.u_SS
  ink_C = np.einsum("xy,xyc->c", own_SS, rest_SSC) / ((own_SS * draft.u_SS).sum() + 1e-6)
  draft.colour = int(((_COLOURS - ink_C) ** 2).sum(-1).argmin())
  left_SSC, before_SSC = rest_SSC - draft.u_SS[..., None] * _COLOURS[draft.colour], picture_SSC - base_SSC
  left_SS = weight_SS * np.einsum("xyc,xyc->xy", left_SSC, left_SSC)
  before_SS = weight_SS * np.einsum("xyc,xyc->xy", before_SSC, before_SSC)
  near_SS = ndimage.binary_dilation(cover_SS > 0.1)
  draft.gain = float((before_SS - left_SS).sum())
  draft.unexplained = float((left_SS * near_SS).sum() / ((before_SS * near_SS).sum() + 1e-6))


def _place(groups, pictures_BSSC, backgrounds_B, templates, strict) -> None:
  """Places each object anew, with the others of its picture as they were."""
  drafts = [d for group in groups for d in group]
  if drafts:
    around = [_surroundings(d, group, int(backgrounds_B[d.picture])) for group in groups for d in group]
    base_MSSC, weight_MSS = (np.stack(each) for each in zip(*around))
    _put_best(drafts, pictures_BSSC[[d.picture for d in drafts]], base_MSSC, weight_MSS, 1, templates, strict)


def _surroundings(draft, group, background: int):
  """What lies behind an object, and how much of each pixel no smaller object covers (squared: it weighs errors)."""
  weight_SS = np.ones((SIDE, SIDE), np.float32)
  if draft.rim:
    row, column = draft.at
    weight_SS *= np.hypot(_PIXEL_S - column, _PIXEL_S[:, None] - row) > scene_templates.OPEN
  layers = _layers(group)
  depth = next(i for i, each in enumerate(layers) if each is draft)
  for other in layers[depth + 1 :]:
    weight_SS *= (1 - other.u_SS - other.v_SS) ** 2
  return _drawn(layers[:depth], background), weight_SS


def _layers(drafts) -> list[_Draft]:
  """Larger objects under smaller ones; of two equal ones, the newer on top."""
  return sorted(drafts, key=lambda d: -d.area)


def _drawn(drafts, background: int) -> Float[np.ndarray, "S S C"]:
  """The scene as drafted, larger objects under smaller ones."""
  canvas_SSC = np.empty((SIDE, SIDE, 3), np.float32)
  canvas_SSC[:] = _BACKGROUNDS[background]
  for d in _layers(drafts):
    canvas_SSC *= (1 - d.u_SS - d.v_SS)[..., None]
    canvas_SSC += d.u_SS[..., None] * _COLOURS[d.colour] + d.v_SS[..., None] * _STRIPE
  return canvas_SSC


def _found(draft) -> Found:
  template = TEMPLATES[draft.template]
  colour = list(scenes.COLOURS)[draft.colour]
  row, column = draft.at
  like = scenes.Object(shape=template.shape, colour=colour, size=template.size, texture=template.texture)
  return Found(
    shape=template.shape if draft.unexplained < UNCLEAR else None,
    colour=colour,
    size=template.size,
    texture=template.texture,
    centre=(float(column + 0.5 + template.x), float(row + 0.5 + template.y)),
    half_extents=like.half_extents,
    unexplained=draft.unexplained,
  )
