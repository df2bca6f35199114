"""ruDALL-E's transformer: from the state dict of its `pytorch_model*.bin` to `models.peers.rudalle`.

Two versions of the network have arrays of the same names and shapes (see the model). What tells them apart is the mask
of the last layer, which is saved with the weights: of the transformer, or of the whole network in its first release.
ruDALL-E itself goes by the name of the model and not by the masks in its file, so a version that is asked for is taken.
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
MASKS = ("row_mask", "col_mask", "conv_mask")
OWNER = "transformer."


def recognises(names: Collection[str]) -> bool:
  """Whether these are the names of such a file."""
  return {"image_row_embeddings.weight", "text_pos_embeddings.weight", "to_logits.1.weight"} <= set(names)


def read(
  arrays: Mapping[str, np.ndarray], heads: int | None = None, version: int | None = None
) -> tuple[Config, PyTree]:
  """The network's sizes and float32 parameters. heads: for a width that was not published.

  version: 2 (Malevich_v2, Emojich) or 3 (the others); that of the file's masks if None. Raises UserError with the first
  name that is missing, unknown, of another shape or not finite, and, where no version is asked for, for a mask that is
  not ruDALL-E's, and where there are none or the grid is so small that both versions have the same.
  """
  masks = {name.removeprefix(OWNER): array for name, array in arrays.items() if name.removeprefix(OWNER) in MASKS}
  names = Names({name: array for name, array in arrays.items() if name.removeprefix(OWNER) not in MASKS})
  sizes = _config(names, heads)
  versions = {2: dataclasses.replace(sizes, carried=sizes.text + 1, wraps=True), 3: sizes}
  if version not in (None, *versions):
    raise UserError(f"got version {version} of ruDALL-E, wanted 2 or 3")
  cfg = _by_masks(versions, masks) if version is None else versions[version]
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


def _by_masks(versions: Mapping[int, Config], masks: Mapping[str, np.ndarray]) -> Config:
  """The sizes of the version that the file's masks are of."""
  sizes, fits = versions[3], list(versions.values())
  asked = "say --kind rudalle_2 (Malevich_v2, Emojich) or rudalle_3 (others)"
  for name, kind in zip(MASKS, ("row", "column")):
    if name in masks and not _same(masks[name], Pattern(sizes.text, sizes.grid, kind)):
      raise UserError(f"this file's {name} is not ruDALL-E's: if it is one of its models all the same, {asked}")
  if MASKS[2] in masks:
    fits = [cfg for cfg in fits if _same(masks[MASKS[2]], dataclasses.replace(cfg, layers=3).sees(2))]
    if not fits:
      raise UserError(f"this file's {MASKS[2]} is not ruDALL-E's: if it is one of its models all the same, {asked}")
  if len(fits) > 1:
    raise UserError(f"this ruDALL-E file does not tell its version: {asked}")
  return fits[0]


def _same(mask: np.ndarray, sees: Pattern | Torus) -> bool:
  return np.array_equal(np.asarray(mask).astype(bool), sees.mask())


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
