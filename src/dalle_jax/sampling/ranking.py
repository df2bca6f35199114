"""What pictures are ranked by, as a person asks for it: clip, likelihood, or a mix such as clip=1,likelihood=0.5."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from dalle_jax.errors import UserError
from dalle_jax.sampling.drawer import Drawer
from dalle_jax.sampling.rankers import Weighted

KNOWN = {"clip": "CLIP", "likelihood": "likelihood"}


def parse(text: str) -> dict[str, float]:
  """Weights by ranker, of clip, or likelihood, or a mix such as clip=1,likelihood=0.5. Raises UserError else."""
  weights: dict[str, float] = {}
  for part in text.split(","):
    name, _, number = part.partition("=")
    if name not in KNOWN or name in weights:
      raise UserError(f"got --rank {text}, wanted one of {', '.join(KNOWN)}, or a mix: clip=1,likelihood=0.5")
    try:
      weights[name] = float(number) if number else 1.0
    except ValueError as error:
      raise UserError(f"got --rank {text}: {number!r} is no weight; wanted a number, as in {name}=0.5") from error
    if not np.isfinite(weights[name]) or not weights[name]:
      raise UserError(f"got --rank {text}: a weight of {number} ranks nothing; wanted another number")
  return weights


def rankers(drawer: Drawer, asked: Mapping[str, float] | None) -> dict[str, Weighted]:
  """What ranks; by CLIP, where there is one, if nothing is asked. Raises UserError for CLIP where none is trained."""
  if asked is None:
    return drawer.rankers()
  if "clip" in asked and drawer.clip is None:
    raise UserError("--rank clip: no CLIP is trained in this run; train its stage, or take --rank likelihood")
  known = {**drawer.rankers(), "likelihood": Weighted(ranker=drawer.own_likelihood())}
  return {name: dataclasses.replace(known[name], weight=weight) for name, weight in asked.items()}


def told(chosen: Mapping[str, Weighted]) -> str:
  """The rankers for a person: CLIP, or 1 CLIP + 0.5 likelihood."""
  if len(chosen) > 1 or any(weighted.weight != 1 for weighted in chosen.values()):
    return " + ".join(f"{weighted.weight:g} {KNOWN.get(name, name)}" for name, weighted in chosen.items())
  return next((KNOWN.get(name, name) for name in chosen), "nothing, in the order drawn")
