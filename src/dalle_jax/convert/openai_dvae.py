"""OpenAI's discrete VAE as published beside the paper: encoder.pkl and decoder.pkl, two modules of its package dall_e.

Its blocks are those of `models.dvae`: a convolution is {w: [out, in, k, k], b: [out]} there, {kernel: [k, k, in, out],
bias} here; id_path is `identity`, blocks.output.conv `output`. The side of pictures is in no array: 256, as trained.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.named import Names
from dalle_jax.errors import UserError
from dalle_jax.models.dvae import Config

INPUT = "blocks.input.w"
FIRST = "blocks.group_1.block_1.res_path.conv_1.w"
IMAGE, GROUPS = 256, 4


def recognises(names: Collection[str]) -> bool:
  """Whether these are the names of OpenAI's encoder, its decoder, or both."""
  return any(name.endswith(FIRST) for name in names) and any(name.endswith(INPUT) for name in names)


def read(arrays: Mapping[str, np.ndarray]) -> tuple[Config, PyTree]:
  """The sizes, and the parameters in float32, of both halves: names with any two prefixes, as encoder. and decoder.

  Raises UserError naming the first array that is missing, unknown, of another shape or not finite, or the half that is.
  """
  encoder, decoder = _halves(arrays)
  inputs = {half: Names(arrays, prefix) for half, prefix in (("encoder", encoder), ("decoder", decoder))}
  hidden = inputs["encoder"].shape(INPUT)[0]
  code_dim, vocab = inputs["decoder"].shape(INPUT)[:2]
  blocks = sum(
    re.fullmatch(r"blocks\.group_1\.block_\d+\.res_path\.conv_1\.w", n) is not None for n in inputs["encoder"]
  )
  cfg = Config(image=IMAGE, vocab=vocab, hidden=hidden, groups=GROUPS, blocks=blocks, code_dim=code_dim)
  params = {
    "encoder": _half(inputs["encoder"], cfg, (3, hidden, 7), [2**g for g in range(GROUPS)], (3, 3, 3, 1), vocab),
    "decoder": _half(inputs["decoder"], cfg, (vocab, code_dim, 1), [8, 4, 2, 1], (1, 3, 3, 3), 6),
  }
  for names in inputs.values():
    names.all_taken()
  if other := [name for name in arrays if not name.startswith((encoder, decoder))]:
    raise UserError(f"the array {other[0]} is of another model: it is not known here")
  return cfg, params


def _halves(arrays: Mapping[str, np.ndarray]) -> tuple[str, str]:
  """The prefixes of the encoder's names and the decoder's: the encoder's first convolution is the one of pixels."""
  found = {name.removesuffix(INPUT): arrays[name].shape for name in arrays if name.endswith(INPUT)}
  encoders = [prefix for prefix, shape in found.items() if len(shape) == 4 and shape[2:] == (7, 7)]
  decoders = [prefix for prefix, shape in found.items() if len(shape) == 4 and shape[2:] == (1, 1)]
  for half, there in (("encoder", encoders), ("decoder", decoders)):
    if len(there) != 1:
      what = f"{len(there)} times" if there else "not"
      raise UserError(f"OpenAI's dVAE has two files: its {half} is there {what}; name encoder.pkl and decoder.pkl")
  return encoders[0], decoders[0]


def _half(
  names: Names, cfg: Config, first: tuple[int, int, int], widths: list[int], sizes: tuple[int, ...], last: int
) -> PyTree:
  n_in, n_out, size = first
  params = {"input": _conv(names, "blocks.input", n_in, n_out, size)}
  features = n_out
  for g, width in enumerate(widths, start=1):
    group = {}
    for b in range(1, cfg.blocks + 1):
      group[f"block_{b}"] = _block(names, f"blocks.group_{g}.block_{b}", features, cfg.hidden * width, sizes)
      features = cfg.hidden * width
    params[f"group_{g}"] = group
  return params | {"output": _conv(names, "blocks.output.conv", features, last, 1)}


def _block(names: Names, path: str, n_in: int, n_out: int, sizes: tuple[int, ...]) -> PyTree:
  inner = n_out // 4
  widths = (n_in, inner, inner, inner, n_out)
  block = {
    f"conv_{i + 1}": _conv(names, f"{path}.res_path.conv_{i + 1}", widths[i], widths[i + 1], size)
    for i, size in enumerate(sizes)
  }
  return block | ({"identity": _conv(names, f"{path}.id_path", n_in, n_out, 1)} if n_in != n_out else {})


def _conv(names: Names, path: str, n_in: int, n_out: int, size: int) -> PyTree:
  w_OIkk = names.take(f"{path}.w", (n_out, n_in, size, size))
  return {"kernel": np.ascontiguousarray(w_OIkk.transpose(2, 3, 1, 0)), "bias": names.take(f"{path}.b", (n_out,))}
