"""The kinds of weights that are read: how each is told by its arrays' names, read, and used."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert import clip, clip_files, openai_dvae
from dalle_jax.errors import UserError
from dalle_jax.models import dvae, openai_clip


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is read of one project's files.

  title, files: for people; config: the class of the sizes that `read` returns; then: what to do with DIR, the converted
  weights; recognises, read: as in its module. read_beside: in place of `read`, where files beside the weights matter:
  of the arrays and all paths that were named, also which of these files are kept.
  """

  title: str
  files: str
  config: type
  then: str
  recognises: Callable[[Collection[str]], bool]
  read: Callable[[Mapping[str, np.ndarray]], tuple[Any, PyTree]]
  read_beside: Callable[[Mapping[str, np.ndarray], Sequence[Path]], tuple[Any, PyTree, tuple[Path, ...]]] | None = None


SCORE = "dalle eval WORKDIR --metrics clip_score r_precision --clip DIR"
TAKE = "dalle train EXPERIMENT --stages.dvae.from DIR --stages.dvae.frozen True"

KINDS: dict[str, Kind] = {
  "openai_dvae": Kind(
    "OpenAI's dVAE", "encoder.pkl decoder.pkl", dvae.Config, TAKE, openai_dvae.recognises, openai_dvae.read
  ),
  "openai_clip": Kind(
    "CLIP of OpenAI, open_clip or Hugging Face",
    "ViT-B-32.pt bpe_simple_vocab_16e6.txt.gz",
    openai_clip.Config,
    SCORE,
    clip.recognises,
    clip.read,
    clip_files.read,
  ),
}


def one(name: str) -> Kind:
  """The kind of that name. Raises UserError naming those there are."""
  if name not in KINDS:
    raise UserError(f"no kind of weights {name!r}; there are {_all()}")
  return KINDS[name]


def find(arrays: Mapping[str, np.ndarray], source: str) -> str:
  """The kind whose arrays these are. Raises UserError where no kind knows their names, or several do."""
  found = [name for name, kind in KINDS.items() if kind.recognises(arrays.keys())]
  if len(found) == 1:
    return found[0]
  if found:
    raise UserError(f"{source}: its arrays could be of {' or '.join(found)}: say which by --kind")
  first = ", ".join(list(arrays)[:2])
  raise UserError(f"{source} holds {len(arrays)} arrays ({first} ...) of no kind that is known; there are {_all()}")


def _all() -> str:
  return ", ".join(f"{name} ({kind.files})" for name, kind in KINDS.items())
