"""The transformers of a published CLIP's file: the towers of pictures and of captions.

D width, C H W colours and sides of a patch.
"""

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert import clip_names
from dalle_jax.convert import clip_parts as parts
from dalle_jax.convert.clip_description import Description, heads_by_width
from dalle_jax.convert.clip_names import Names
from dalle_jax.convert.taking import Taking
from dalle_jax.models.openai_clip import Stack, Text, VisionTransformer


def vision(taking: Taking, names: Names, said: Description) -> tuple[VisionTransformer, PyTree, int]:
  """The sizes and parameters of a vision transformer, and the width of the shared space."""
  width, _, patch, _ = taking.shape(names.patch, 4)
  side = parts.side(taking, names.vision_position)
  embed = taking.shape(names.vision_head, 2)[0 if names.heads_turned else 1]
  heads = said.vision_heads or heads_by_width(width, vision=True)
  stack, blocks = _stack(taking, names, names.vision_blocks, width, heads, said.vision_quick_gelu)
  kernel_DCHW = taking.take(names.patch, width, 3, patch, patch)
  params = {
    "class_token": taking.take(names.class_token, width),
    "position": taking.take(names.vision_position, side**2 + 1, width),
    "patch": np.ascontiguousarray(kernel_DCHW.transpose(2, 3, 1, 0).reshape(patch * patch * 3, width)),
    "norm_in": parts.norm(taking, names.norm_in, width),
    "blocks": blocks,
    "norm_out": parts.norm(taking, names.norm_out, width),
    "head": parts.head(taking, names, names.vision_head, width, embed),
  }
  return VisionTransformer(image=side * patch, patch=patch, stack=stack), params, embed


def text(taking: Taking, names: Names, said: Description, embed: int) -> tuple[Text, PyTree]:
  """The sizes and parameters of the text transformer."""
  vocab, width = taking.shape(names.token, 2)
  length, _ = taking.shape(names.text_position, 2)
  heads = said.text_heads or heads_by_width(width, vision=False)
  stack, blocks = _stack(taking, names, names.text_blocks, width, heads, said.text_quick_gelu)
  params = {
    "token": taking.take(names.token, vocab, width),
    "position": taking.take(names.text_position, length, width),
    "blocks": blocks,
    "norm_out": parts.norm(taking, names.text_norm, width),
    "head": parts.head(taking, names, names.text_head, width, embed),
  }
  return Text(vocab=vocab, length=length, stack=stack, end=said.end), params


def _stack(taking: Taking, names: Names, prefix: str, width: int, heads: int, quick_gelu: bool) -> tuple[Stack, PyTree]:
  layers = max(1, taking.count(prefix))
  mlp = taking.shape(f"{prefix}0.{names.block.mlp_in}.weight", 2)[0]
  blocks = [_block(taking, names.block, f"{prefix}{i}.", width, mlp) for i in range(layers)]
  stacked = {part: {leaf: np.stack([b[part][leaf] for b in blocks]) for leaf in blocks[0][part]} for part in blocks[0]}
  return Stack(layers=layers, width=width, heads=heads, mlp=mlp, quick_gelu=quick_gelu), stacked


def _block(taking: Taking, names: clip_names.Block, prefix: str, width: int, mlp: int) -> PyTree:
  each = 3 * width // len(names.qkv)
  kernels = [taking.take(f"{prefix}{name}weight", each, width) for name in names.qkv]
  biases = [taking.take(f"{prefix}{name}bias", each) for name in names.qkv]
  return {
    "norm_1": parts.norm(taking, prefix + names.norm_1, width),
    "qkv": {"kernel": np.concatenate(kernels).T, "bias": np.concatenate(biases)},
    "out": parts.linear(taking, prefix + names.out, width, width),
    "norm_2": parts.norm(taking, prefix + names.norm_2, width),
    "mlp_in": parts.linear(taking, prefix + names.mlp_in, width, mlp),
    "mlp_out": parts.linear(taking, prefix + names.mlp_out, mlp, width),
  }
