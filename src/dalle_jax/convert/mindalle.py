"""minDALL-E's transformer: from the state dict of its `stage2_last.ckpt` to `models.peers.mindalle`."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert.named import Named
from dalle_jax.errors import UserError
from dalle_jax.models.peers.mindalle import Config

WHOLE = "stage2."  # of a file that holds the image tokenizer, "stage1.", too
HEADS = {1536: 24}  # of the published width; no array tells


def recognises(names: Collection[str]) -> bool:
  """Whether these are the names of such a file."""
  return any({f"{p}tok_emb_txt.weight", f"{p}pos_emb_txt.weight", f"{p}head_txt.weight"} <= set(names) for p in ("", WHOLE))


def read(arrays: Mapping[str, np.ndarray], heads: int | None = None) -> tuple[Config, PyTree]:
  """The network's sizes and float32 parameters. heads: for a width that was not published.

  Raises UserError with the first name that is missing, unknown, of another shape or not finite, and for sizes that no
  such network has.
  """
  prefix = WHOLE if any(name.startswith(WHOLE) for name in arrays) else ""
  own = {name: array for name, array in arrays.items() if not (prefix and name.startswith("stage1."))}
  named = Named(own, "minDALL-E", prefix)
  cfg = _config(named, heads)
  d = cfg.width
  params = {
    "text_token": named.table("tok_emb_txt", cfg.text_vocab, d),
    "image_token": named.table("tok_emb_img", cfg.image_vocab, d),
    "text_position": named.table("pos_emb_txt", cfg.text, d),
    "image_position": named.table("pos_emb_img", cfg.grid**2, d),
    **{f"block_{i}": _block(named, f"blocks.{i}", d) for i in range(cfg.layers)},
    "norm_out": named.norm("ln_f", d),
    "text_head": named.linear("head_txt", d, cfg.text_vocab, bias=False),
    "image_head": named.linear("head_img", d, cfg.image_vocab, bias=False),
  }
  named.done()
  return cfg, params


def _config(named: Named, heads: int | None) -> Config:
  text_vocab, width = named.peek("tok_emb_txt.weight", 2).shape
  text, places = (len(named.peek(f"pos_emb_{kind}.weight", 2)) for kind in ("txt", "img"))
  grid = round(places**0.5)
  if grid**2 != places:
    raise UserError(f"minDALL-E's pos_emb_img.weight has {places} rows: those of a square grid are wanted")
  heads = heads or HEADS.get(width)
  if heads is None:
    raise UserError(f"no minDALL-E of width {width} was published, and its file does not say how many heads: say so")
  return Config(
    text_vocab=text_vocab,
    text=text,
    image_vocab=len(named.peek("tok_emb_img.weight", 2)),
    grid=grid,
    layers=named.count("blocks"),
    width=width,
    heads=heads,
    carried=text,
  )


def _block(named: Named, at: str, d: int) -> PyTree:
  qkv = [named.linear(f"{at}.attn.{part}", d, d) for part in ("query", "key", "value")]
  return {
    "norm_1": named.norm(f"{at}.ln1", d),
    "attention": {
      "qkv": {leaf: np.stack([part[leaf] for part in qkv]) for leaf in ("kernel", "bias")},
      "out": named.linear(f"{at}.attn.proj", d, d),
    },
    "norm_2": named.norm(f"{at}.ln2", d),
    "up": named.linear(f"{at}.mlp.0", d, 4 * d),
    "down": named.linear(f"{at}.mlp.2", 4 * d, d),
  }
