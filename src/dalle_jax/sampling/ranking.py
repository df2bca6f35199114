"""What pictures are ranked by, as a person asks for it: clip, likelihood, probability, or a mix."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dalle_jax.errors import UserError
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.rankers import Weighted

PUBLISHED = "published"  # a CLIP of others, converted
KNOWN = {"clip": "CLIP", "likelihood": "likelihood", "probability": "probability", PUBLISHED: "the published CLIP"}


def parse(text: str) -> dict[str, float]:
  """Weights by ranker: of one that is `KNOWN`, or a mix such as clip=1,probability=0.5. Raises UserError else."""
  weights: dict[str, float] = {}
  for part in text.split(","):
    name, _, number = part.partition("=")
    if name not in KNOWN or name in weights:
      raise UserError(f"got --rank {text}, wanted one of {', '.join(KNOWN)}, or a mix: clip=1,probability=0.5")
    try:
      weights[name] = float(number) if number else 1.0
    except ValueError as error:
      raise UserError(f"got --rank {text}: {number!r} is no weight; wanted a number, as in {name}=0.5") from error
    if not np.isfinite(weights[name]) or not weights[name]:
      raise UserError(f"got --rank {text}: a weight of {number} ranks nothing; wanted another number")
  return weights


def asked_for(text: str | None, clip: Path | None) -> dict[str, float] | None:
  """Weights by ranker; a published CLIP's, where its directory `clip` is named and nothing is said; else None.

  Raises UserError where one is named that does not rank.
  """
  if text is None:
    return {PUBLISHED: 1.0} if clip else None
  weights = parse(text)
  if clip and PUBLISHED not in weights:
    raise UserError(f"got --rank {text} and --clip {clip}, which --rank {PUBLISHED} alone reads: leave one of them out")
  return weights


def rankers(drawer: Drawer, asked: Mapping[str, float] | None, captions: Sequence[str] = ()) -> dict[str, Weighted]:
  """What ranks; by CLIP, where there is one, if nothing is asked.

  captions: the texts, by the numbers that the drawer gives them, which a published CLIP reads itself. Raises UserError
  for a CLIP where there is none.
  """
  if asked is None:
    return drawer.rankers()
  if "clip" in asked and drawer.clip is None:
    raise UserError(
      "--rank clip: this run has no trained CLIP; train its stage, or take --rank probability, or --clip DIR"
    )
  known = {**drawer.rankers(), **{name: Weighted(ranker=ranker) for name, ranker in drawer.own().items()}}
  if PUBLISHED in asked:
    if drawer.published is None:
      raise UserError(f"--rank {PUBLISHED}: by which CLIP? Name what `dalle convert` made of one, --clip DIR")
    known[PUBLISHED] = Weighted(ranker=drawer.published(captions))
  return {name: dataclasses.replace(known[name], weight=weight) for name, weight in asked.items()}


def told(chosen: Mapping[str, Weighted]) -> str:
  """The rankers for a person: CLIP, or 1 CLIP + 0.5 likelihood."""
  if len(chosen) > 1 or any(weighted.weight != 1 for weighted in chosen.values()):
    return " + ".join(f"{weighted.weight:g} {KNOWN.get(name, name)}" for name, weighted in chosen.items())
  return next((KNOWN.get(name, name) for name in chosen), "nothing, in the order drawn")
