"""VQGANs by the names of taming-transformers: its VQModel and GumbelVQ, and those of minDALL-E and ruDALL-E.

Their convolutions are OIHW, ours HWIO. Pixels are mapped to [-1, 1] by all of them.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.matching import Source, filled, shapes_of
from dalle_jax.convert.named import Names
from dalle_jax.errors import UserError
from dalle_jax.models import vqgan
from dalle_jax.models.vqgan import VqganConfig

# Before the names, where the VQGAN is a part of something: of ruDALL-E's class, taming's transformer, minDALL-E.
PREFIXES = ("", "model.", "first_stage_model.", "stage1.")
# Of training: the losses, with the discriminator and the perceptual network.
TRAINING = ("loss.",)
MARKS = ("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight", "post_quant_conv.weight")
WAVELETS = "decoder.decoder.conv_in.weight"
NUMBERED = re.compile(r"^(block|attn|down|up)_(\d+)$")


def recognises(names: Collection[str]) -> bool:
  """Whether a file with these names is one of these VQGANs."""
  return _prefix(names) is not None or any(prefix + WAVELETS in names for prefix in PREFIXES)


def ignored(names: Collection[str]) -> list[str]:
  """The names that `read` passes over: what only training needs, and what stands beside the VQGAN."""
  prefix = _prefix(names) or ""
  return [name for name in names if not name.startswith(prefix) or name[len(prefix) :].startswith(TRAINING)]


def read(arrays: Mapping[str, np.ndarray], image: int = 256) -> tuple[VqganConfig, PyTree]:
  """The configuration that the shapes tell, and the parameters.

  image: side of the pictures that it was trained on, which no shape tells. Raises UserError naming the first array that
  is missing, unknown, of another shape or not finite.
  """
  if any(prefix + WAVELETS in arrays for prefix in PREFIXES):
    raise UserError("these weights draw 512 pixels by wavelets: take ruDALL-E's VQGAN of 256, not the one called dwt")
  prefix, passed = _prefix(arrays), set(ignored(arrays))
  if prefix is None:
    raise UserError(f"the weights lack {MARKS[0]!r} or {MARKS[1]!r}: no VQGAN of taming-transformers has these names")
  own = Names({name: array for name, array in arrays.items() if name not in passed}, prefix)
  cfg = config_of(own, image)
  return cfg, filled(shapes_of(lambda key: vqgan.init(key, cfg)), lambda *asked: source(cfg, *asked), own)


def config_of(arrays: Names, image: int) -> VqganConfig:
  """What the names and shapes tell. Raises UserError where they are no VQGAN's."""
  width, gumbel = shape_of(arrays, "encoder.conv_in.weight", 4)[0], "quantize.proj.weight" in arrays
  levels = count(arrays, "encoder.down.{}.block.0.conv1.weight")
  vocab, code_dim = shape_of(arrays, f"quantize.{'embed' if gumbel else 'embedding'}.weight", 2)
  return VqganConfig(
    image=image,
    vocab=vocab,
    code_dim=code_dim,
    latent=shape_of(arrays, "decoder.conv_in.weight", 4)[1],
    width=width,
    multiples=tuple(shape_of(arrays, f"encoder.down.{i}.block.0.conv1.weight", 4)[0] // width for i in range(levels)),
    blocks=count(arrays, "encoder.down.0.block.{}.conv1.weight"),
    attention=tuple(i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in arrays),
    gumbel=gumbel,
  )


def shape_of(arrays: Names, name: str, rank: int) -> tuple[int, ...]:
  """An array's shape. Raises UserError where it is missing, empty, or has another number of axes."""
  shape = arrays.shape(name)
  if len(shape) != rank or 0 in shape:
    raise UserError(f"the array {name} is {shape}, wanted {rank} axes, none of them empty")
  return shape


def count(names: Iterable[str], pattern: str) -> int:
  """How many of pattern.format(0), pattern.format(1) ... there are before the first that is not."""
  found = 0
  while pattern.format(found) in names:
    found += 1
  return found


def source(cfg: VqganConfig, path: tuple[str, ...], shape: tuple[int, ...]) -> Source:
  """The array of taming's state dict that one of our parameters is."""
  *parts, leaf = path
  if leaf == "embedding":
    return Source(f"quantize.{'embed' if cfg.gumbel else 'embedding'}.weight", shape)
  names = [part if parts[i - 1] == "mid" else NUMBERED.sub(r"\1.\2", part) for i, part in enumerate(parts)]
  if names[-1] in ("downsample", "upsample"):
    names.append("conv")
  name = ".".join([*names, "bias" if leaf == "bias" else "weight"])
  if leaf != "kernel":
    return Source(name, shape)
  rows, columns, inputs, outputs = shape
  return Source(name, (outputs, inputs, rows, columns), lambda array: array.transpose(2, 3, 1, 0))


def _prefix(names: Collection[str]) -> str | None:
  return next((prefix for prefix in PREFIXES if all(prefix + mark in names for mark in MARKS)), None)
