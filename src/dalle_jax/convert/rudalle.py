"""ruDALL-E's transformer: from the state dict of its `pytorch_model*.bin` to `models.peers.rudalle`.

Two versions of the network have arrays of the same names and shapes (see the model). What tells them apart is the mask
of the last layer, which is saved with the weights.
"""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.named import Names
from dalle_jax.convert.torch_layers import embedding, linear, modules, norm, table
from dalle_jax.errors import UserError
from dalle_jax.models.peers.attention import Torus
from dalle_jax.models.peers.rudalle import Config
from dalle_jax.ops.sparse_attention import Pattern

HEADS = {768: 12, 2048: 16, 3840: 60}  # of the published widths; no array tells
MASKS = ("transformer.row_mask", "transformer.col_mask", "transformer.conv_mask")


def recognises(names: Collection[str]) -> bool:
  """Whether these are the names of such a file."""
  return {"image_row_embeddings.weight", "text_pos_embeddings.weight", "to_logits.1.weight"} <= set(names)


def read(
  arrays: Mapping[str, np.ndarray], heads: int | None = None, version: int | None = None
) -> tuple[Config, PyTree]:
  """The network's sizes and float32 parameters. heads: for a width that was not published.

  version: 2 (Malevich_v2, Emojich) or 3 (the others), where the file holds no masks, or a grid so small that they are
  the same in both. Raises UserError with the first name that is missing, unknown, of another shape or not finite, for a
  mask that is not ruDALL-E's, and where the version is not known or is not the file's.
  """
  names = Names({name: array for name, array in arrays.items() if name not in MASKS})
  cfg = _versioned(_config(names, heads), arrays, version)
  d = cfg.width
  params = {
    "text_token": embedding(names, "text_embeddings", cfg.text_classes, d),
    "image_token": embedding(names, "image_embeddings", cfg.image_vocab, d),
    "text_position": embedding(names, "text_pos_embeddings", cfg.text + 1, d),
    "row": embedding(names, "image_row_embeddings", cfg.grid, d),
    "column": embedding(names, "image_col_embeddings", cfg.grid, d),
    **{f"block_{i}": _block(names, f"transformer.layers.{i}", d) for i in range(cfg.layers)},
    "norm_out": norm(names, "transformer.final_layernorm", d),
    "norm_head": norm(names, "to_logits.0", d),
    "head": linear(names, "to_logits.1", d, cfg.text_classes + cfg.image_vocab),
  }
  names.all_taken()
  return cfg, params


def _config(names: Names, heads: int | None) -> Config:
  classes, width = table(names, "text_embeddings")
  text = table(names, "text_pos_embeddings")[0] - 1
  heads = heads or HEADS.get(width)
  if heads is None:
    raise UserError(f"no ruDALL-E of width {width} was published, and its file does not say how many heads: say so")
  return Config(
    text_vocab=classes - text,
    text=text,
    image_vocab=table(names, "image_embeddings")[0],
    grid=table(names, "image_row_embeddings")[0],
    layers=modules(names, "transformer.layers"),
    width=width,
    heads=heads,
    carried=text,
  )


def _versioned(third: Config, arrays: Mapping[str, np.ndarray], version: int | None) -> Config:
  """The sizes as those of the version that the file's masks are of."""
  second = dataclasses.replace(third, carried=third.text + 1, wraps=True)
  fits = {2: second, 3: third}
  masks = {name: np.asarray(arrays[name]).astype(bool) for name in MASKS if name in arrays}
  for name, kind in zip(MASKS, ("row", "column")):
    if name in masks and not _same(masks[name], Pattern(third.text, third.grid, kind)):
      raise UserError(f"ruDALL-E's {name} is not ruDALL-E's: this file's attention is not read")
  if MASKS[2] in masks:
    window = {n: dataclasses.replace(cfg, layers=3).sees(2) for n, cfg in fits.items()}
    fits = {n: cfg for n, cfg in fits.items() if _same(masks[MASKS[2]], window[n])}
    if not fits:
      raise UserError(f"ruDALL-E's {MASKS[2]} is of neither version 2 nor 3: this file's attention is not read")
  if version is None and len(fits) > 1:
    raise UserError(
      "this ruDALL-E file does not tell its version: say --kind rudalle_2 (Malevich_v2, Emojich) or rudalle_3 (others)"
    )
  if version is not None and version not in fits:
    raise UserError(f"got version {version}, the file's masks are those of {' or '.join(map(str, fits))}")
  return fits[version] if version is not None else next(iter(fits.values()))


def _same(mask: np.ndarray, sees: Pattern | Torus) -> bool:
  return np.array_equal(mask, sees.mask())


def _block(names: Names, at: str, d: int) -> PyTree:
  qkv = linear(names, f"{at}.attention.query_key_value", d, 3 * d)
  return {
    "attention_in": norm(names, f"{at}.input_layernorm", d),
    "attention": {
      "qkv": {
        "kernel": np.stack(np.split(qkv["kernel"], 3, axis=1)),
        "bias": np.stack(np.split(qkv["bias"], 3)),
      },
      "out": linear(names, f"{at}.attention.dense", d, d),
    },
    "attention_out": norm(names, f"{at}.before_first_addition_layernorm", d),
    "mlp_in": norm(names, f"{at}.post_attention_layernorm", d),
    "up": linear(names, f"{at}.mlp.dense_h_to_4h", d, 4 * d),
    "down": linear(names, f"{at}.mlp.dense_4h_to_h", 4 * d, d),
    "mlp_out": norm(names, f"{at}.before_second_addition_layernorm", d),
  }
