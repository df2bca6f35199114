"""The kinds of weights that are read: how each is told by its arrays' names, read, and used."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert import clip, clip_files, dalle_mini, inception, mindalle, openai_dvae, rudalle, vqgan
from dalle_jax.convert.published import INCEPTION
from dalle_jax.errors import UserError
from dalle_jax.models import dvae, openai_clip
from dalle_jax.models import inception as inception_model
from dalle_jax.models.peers import mindalle as mindalle_model
from dalle_jax.models.peers import rudalle as rudalle_model
from dalle_jax.models.vqgan import VqganConfig


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is read of one project's files.

  title, files: for people; config: the class of the sizes that `read` returns; then: what to do with DIR, the converted
  weights; recognises, read, ignored: as in its module. read_beside: in place of `read`, where files beside the weights
  matter: of the arrays and all paths that were named, also which of these files are kept.
  """

  title: str
  files: str
  config: Any
  then: str
  recognises: Callable[[Collection[str]], bool]
  read: Callable[[Mapping[str, np.ndarray]], tuple[Any, PyTree]]
  ignored: Callable[[Collection[str]], list[str]] = lambda names: []
  read_beside: Callable[[Mapping[str, np.ndarray], Sequence[Path]], tuple[Any, PyTree, tuple[Path, ...]]] | None = None


SCORE = "dalle eval WORKDIR --metrics clip_score r_precision --clip DIR"
TAKE = "dalle train EXPERIMENT --stages.dvae.from DIR --stages.dvae.frozen True"
MEASURE = "dalle eval WORKDIR --metrics fid is --inception DIR"

DRAW = "draw from DIR by dalle_jax.sampling.peers: docs/peers.md"
FIRST = "dalle train experiments/vqgan_f16.py --weights DIR"


def _only_if_said(_: Collection[str]) -> bool:
  return False


def _rudalle(version: int | None) -> Kind:
  """Of the version that its masks tell, or of this one, which is only read where it is asked for."""
  return Kind(
    f"ruDALL-E's transformer{f' of version {version}' if version else ''}",
    "pytorch_model.bin bpe.model",
    rudalle_model.Config,
    DRAW,
    _only_if_said if version else rudalle.recognises,
    functools.partial(rudalle.read, version=version),
  )


KINDS: dict[str, Kind] = {
  "openai_dvae": Kind(
    "OpenAI's dVAE", "encoder.pkl decoder.pkl", dvae.Config, TAKE, openai_dvae.recognises, openai_dvae.read
  ),
  "inception": Kind(
    "FID's Inception v3", INCEPTION.file, inception_model.Config, MEASURE, inception.recognises, inception.read
  ),
  "openai_clip": Kind(
    "CLIP of OpenAI, open_clip or Hugging Face",
    "ViT-B-32.pt bpe_simple_vocab_16e6.txt.gz",
    openai_clip.Config,
    SCORE,
    clip.recognises,
    clip.read,
    read_beside=clip_files.read,
  ),
  "vqgan": Kind(
    "a VQGAN of taming-transformers, minDALL-E or ruDALL-E",
    "last.ckpt, stage1_last.ckpt, vqgan.gumbelf8-sber.model.ckpt",
    VqganConfig,
    FIRST,
    vqgan.recognises,
    vqgan.read,
    vqgan.ignored,
  ),
  "dalle_mini_vqgan": Kind(
    "dalle-mini's VQGAN", "flax_model.msgpack, detoker.pt", VqganConfig, FIRST, dalle_mini.recognises, dalle_mini.read
  ),
  "rudalle": _rudalle(None),
  "rudalle_2": _rudalle(2),
  "rudalle_3": _rudalle(3),
  "mindalle": Kind(
    "minDALL-E's transformer",
    "stage2_last.ckpt bpe-16k-vocab.json bpe-16k-merges.txt",
    mindalle_model.Config,
    DRAW,
    mindalle.recognises,
    mindalle.read,
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
