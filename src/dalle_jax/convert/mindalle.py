"""minDALL-E's transformer: from the state dict of its `stage2_last.ckpt` to `models.peers.mindalle`."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.named import Names
from dalle_jax.convert.torch_layers import embedding, linear, modules, norm, table
from dalle_jax.errors import UserError
from dalle_jax.models.peers.mindalle import Config

TOKENIZER, WHOLE = "stage1.", "stage2."  # of the names in a file that holds the image tokenizer too
HEADS = {1536: 24}  # of the published width; no array tells


def recognises(names: Collection[str]) -> bool:
  """Whether these are the names of such a file."""
  return {"tok_emb_txt.weight", "pos_emb_txt.weight", "head_txt.weight"} <= {name.removeprefix(WHOLE) for name in names}


def read(arrays: Mapping[str, np.ndarray], heads: int | None = None) -> tuple[Config, PyTree]:
  """The network's sizes and float32 parameters. heads: for a width that was not published.

  Raises UserError with the first name that is missing, unknown, of another shape or not finite, and for sizes that no
  such network has.
  """
  names = Names({name.removeprefix(WHOLE): array for name, array in arrays.items() if not name.startswith(TOKENIZER)})
  cfg = _config(names, heads)
  d = cfg.width
  params = {
    "text_token": embedding(names, "tok_emb_txt", cfg.text_vocab, d),
    "image_token": embedding(names, "tok_emb_img", cfg.image_vocab, d),
    "text_position": embedding(names, "pos_emb_txt", cfg.text, d),
    "image_position": embedding(names, "pos_emb_img", cfg.grid**2, d),
    **{f"block_{i}": _block(names, f"blocks.{i}", d) for i in range(cfg.layers)},
    "norm_out": norm(names, "ln_f", d),
    "text_head": linear(names, "head_txt", d, cfg.text_vocab, bias=False),
    "image_head": linear(names, "head_img", d, cfg.image_vocab, bias=False),
  }
  names.all_taken()
  return cfg, params


def _config(names: Names, heads: int | None) -> Config:
  text_vocab, width = table(names, "tok_emb_txt")
  text, places = (table(names, f"pos_emb_{kind}")[0] for kind in ("txt", "img"))
  grid = round(places**0.5)
  if grid**2 != places:
    raise UserError(f"minDALL-E's pos_emb_img.weight has {places} rows: those of a square grid are wanted")
  heads = heads or HEADS.get(width)
  if heads is None:
    raise UserError(f"no minDALL-E of width {width} was published, and its file does not say how many heads: say so")
  return Config(
    text_vocab=text_vocab,
    text=text,
    image_vocab=table(names, "tok_emb_img")[0],
    grid=grid,
    layers=modules(names, "blocks"),
    width=width,
    heads=heads,
    carried=text,
  )


def _block(names: Names, at: str, d: int) -> PyTree:
  qkv = [linear(names, f"{at}.attn.{part}", d, d) for part in ("query", "key", "value")]
  return {
    "norm_1": norm(names, f"{at}.ln1", d),
    "attention": {
      "qkv": {leaf: np.stack([part[leaf] for part in qkv]) for leaf in ("kernel", "bias")},
      "out": linear(names, f"{at}.attn.proj", d, d),
    },
    "norm_2": norm(names, f"{at}.ln2", d),
    "up": linear(names, f"{at}.mlp.0", d, 4 * d),
    "down": linear(names, f"{at}.mlp.2", 4 * d, d),
  }
