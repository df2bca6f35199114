"""dalle-mini's VQGAN: the Flax weights of vqgan-jax, and the decoder that min-dalle made of them for PyTorch.

Both map pixels to [0, 1]. vqgan-jax puts all attention blocks of a level after each residual block, and normalises with
1e-6; min-dalle gives each residual block its own attention block, and normalises with 1e-5. Either is computed as its
project computes it.
"""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert import vqgan as taming
from dalle_jax.convert.matching import Source, filled, shapes_of
from dalle_jax.convert.named import Names
from dalle_jax.models import vqgan
from dalle_jax.models.vqgan import VqganConfig

FLAX = ("encoder.conv_in.kernel", "decoder.conv_in.kernel", "quantize.embedding.embedding")
DECODER = ("embedding.weight", "post_quant_conv.weight", "decoder.conv_in.weight")


def recognises(names: Collection[str]) -> bool:
  """Whether a file with these names is one of the two."""
  return _is_decoder(names) or all(name in names for name in FLAX)


def read(arrays: Mapping[str, np.ndarray], image: int = 256) -> tuple[VqganConfig, PyTree]:
  """The configuration that the shapes tell, and the parameters.

  image: side of the pictures that it was trained on, which no shape tells. Raises UserError naming the first array that
  is missing, unknown, of another shape or not finite.
  """
  if _is_decoder(arrays):
    own = Names(arrays)
    cfg, place = _of_decoder(own, image), _torch_source
  else:
    own = Names({name: _plain(name, array) for name, array in arrays.items()})
    cfg, place = _of_flax(own, image), _flax_source
  return cfg, filled(shapes_of(lambda key: vqgan.init(key, cfg)), lambda *asked: place(cfg, *asked), own)


def _of_flax(arrays: Names, image: int) -> VqganConfig:
  levels = taming.count(arrays, "encoder.down_{}.block_0.conv1.kernel")
  width = taming.shape_of(arrays, "encoder.conv_in.kernel", 4)[-1]
  vocab, code_dim = taming.shape_of(arrays, "quantize.embedding.embedding", 2)
  return VqganConfig(
    image=image,
    vocab=vocab,
    code_dim=code_dim,
    latent=taming.shape_of(arrays, "decoder.conv_in.kernel", 4)[2],
    width=width,
    multiples=tuple(
      taming.shape_of(arrays, f"encoder.down_{i}.block_0.conv1.kernel", 4)[-1] // width for i in range(levels)
    ),
    blocks=taming.count(arrays, "encoder.down_0.block_{}.conv1.kernel"),
    attention=tuple(i for i in range(levels) if f"encoder.down_{i}.attn_0.q.kernel" in arrays),
    all_attention=True,
    low=0.0,
  )


def _of_decoder(arrays: Names, image: int) -> VqganConfig:
  levels = taming.count(arrays, "decoder.up.{}.block.0.conv1.weight")
  width = taming.shape_of(arrays, "decoder.up.0.block.0.conv1.weight", 4)[0]
  vocab, code_dim = taming.shape_of(arrays, "embedding.weight", 2)
  return VqganConfig(
    image=image,
    vocab=vocab,
    code_dim=code_dim,
    latent=taming.shape_of(arrays, "decoder.conv_in.weight", 4)[1],
    width=width,
    multiples=tuple(
      taming.shape_of(arrays, f"decoder.up.{i}.block.0.conv1.weight", 4)[0] // width for i in range(levels)
    ),
    blocks=taming.count(arrays, "decoder.up.0.block.{}.conv1.weight") - 1,
    attention=tuple(i for i in range(levels) if f"decoder.up.{i}.attn.0.q.weight" in arrays),
    low=0.0,
    epsilon=1e-5,
    encoder=False,
  )


def _flax_source(cfg: VqganConfig, path: tuple[str, ...], shape: tuple[int, ...]) -> Source:
  *parts, leaf = path
  if leaf == "embedding":
    return Source("quantize.embedding.embedding", shape)
  conv = ["conv"] if parts[-1] in ("downsample", "upsample") else []
  return Source(".".join([*parts, *conv, leaf]), shape)


def _torch_source(cfg: VqganConfig, path: tuple[str, ...], shape: tuple[int, ...]) -> Source:
  if path[-1] == "embedding":
    return Source("embedding.weight", shape)
  return taming.source(cfg, path, shape)


def _is_decoder(names: Collection[str]) -> bool:
  return all(name in names for name in DECODER) and "encoder.conv_in.weight" not in names


def _plain(name: str, array: np.ndarray) -> np.ndarray:
  """Gains and biases of old Flax's normalisations are of shape [1, 1, 1, C]."""
  is_vector = name.endswith((".scale", ".bias"))
  return array.reshape(-1) if is_vector and array.shape[:-1] == (1, 1, 1) else array
