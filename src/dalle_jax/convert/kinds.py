"""The kinds of weights that are read: how each is told by its arrays' names, read, and used."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert import openai_dvae
from dalle_jax.errors import UserError
from dalle_jax.models import dvae


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is read of one project's files.

  title, files: for people; config: the class (or union) of the sizes that `read` returns; then: what to do with DIR, the converted
  weights; recognises, read: as in its module.
  """

  title: str
  files: str
  config: Any
  then: str
  recognises: Callable[[Collection[str]], bool]
  read: Callable[[Mapping[str, np.ndarray]], tuple[Any, PyTree]]


TAKE = "dalle train EXPERIMENT --stages.dvae.from DIR --stages.dvae.frozen True"

KINDS: dict[str, Kind] = {
  "openai_dvae": Kind(
    "OpenAI's dVAE", "encoder.pkl decoder.pkl", dvae.Config, TAKE, openai_dvae.recognises, openai_dvae.read
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
