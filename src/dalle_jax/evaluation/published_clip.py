"""A published CLIP with its vocabulary: pictures and captions in, unit vectors out.

B pictures, N captions, H W pixels, E CLIP's space, C captions, S samples of each, R rows of a batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL
from jaxtyping import Array, Float, Int, PyTree, Shaped, UInt8

from dalle_jax import config, sharding
from dalle_jax.data import clip_vocabulary
from dalle_jax.data.clip_bpe import ClipTokenizer
from dalle_jax.errors import UserError
from dalle_jax.evaluation import clip_pixels
from dalle_jax.evaluation.metrics import protocol
from dalle_jax.models import openai_clip
from dalle_jax.sampling.devices import Devices
from dalle_jax.sampling.rankers import Candidates


def words(model: openai_clip.Config, files: Sequence[Path]) -> ClipTokenizer:
  """The tokenizer of a vocabulary's files. Raises UserError where they are damaged, or of another network."""
  found = ClipTokenizer(clip_vocabulary.of(files))
  if found.size != model.text.vocab:
    raise UserError(f"the vocabulary has {found.size} ids, the CLIP reads {model.text.vocab}: they are not a pair")
  return found


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
  """batch: pictures or captions that are embedded at the same time. digest: of the weights, for a protocol."""

  model: openai_clip.Config
  params: PyTree
  tokenizer: ClipTokenizer
  digest: str
  devices: Devices = Devices()
  batch: int = 64

  @functools.cached_property
  def _placed(self) -> PyTree:
    """The parameters on the device, or whole on each of them, once."""
    if self.devices.mesh is None:
      return jax.tree.map(jnp.asarray, self.params)
    return jax.device_put(self.params, sharding.replicated(self.devices.mesh))

  def about(self) -> dict[str, Any]:
    """What a protocol tells of it."""
    return {
      "network": "CLIP",
      "sha256": self.digest,
      "config": protocol.identity({"config": config.to_dict(self.model)}),  # of which GELU it is, no array tells
      "vocabulary": protocol.identity({"ids": dict(self.tokenizer.vocabulary.ids)}),
      "pixels": f"short side by bicubic of Pillow {PIL.__version__}",
    }

  def embed_images(self, images_BHWC: UInt8[np.ndarray, "B H W 3"]) -> Float[np.ndarray, "B E"]:
    """Unit vectors of pictures, whose middles are looked at (`clip_pixels`)."""
    return self._embedded(
      openai_clip.encode_images, lambda rows: clip_pixels.prepare(images_BHWC[rows], self.model), len(images_BHWC)
    )

  def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N E"]:
    """Unit vectors of captions; of one that is too long for the network, the beginning is read."""
    ids_NT = self.tokenizer.ids(texts, self.model.text.length)
    return self._embedded(openai_clip.encode_texts, lambda rows: ids_NT[rows], len(texts))

  def _embedded(
    self,
    encode: Callable[[PyTree, openai_clip.Config, Array], Array],
    inputs: Callable[[Int[np.ndarray, " R"]], Shaped[np.ndarray, "R ..."]],
    total: int,
  ) -> Float[np.ndarray, "B E"]:
    found_BE = np.zeros((total, self.model.embed), np.float32)
    for rows in self.devices.batches(total, self.batch) if total else ():
      found_BE[rows] = openai_clip.unit(encode(self._placed, self.model, self.devices.put(inputs(rows))))
    return found_BE


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedCosine:
  """A `rankers.Ranker` by a published CLIP; captions: the texts, by the numbers that the candidates carry."""

  clip: Clip
  captions: Sequence[str]

  def __call__(self, candidates: Candidates) -> Float[np.ndarray, "C S"]:
    captions, samples, *shape = candidates.images_CSHWC.shape
    pictures_RE = self.clip.embed_images(candidates.images_CSHWC.reshape(-1, *shape))
    texts_CE = self.clip.embed_texts([self.captions[int(number)] for number in candidates.caption_C])
    return np.einsum("ce,cse->cs", texts_CE, pictures_RE.reshape(captions, samples, -1)).astype(np.float32)
