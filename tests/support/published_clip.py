"""Small CLIPs of the official classes, filled with random weights, as the parity tests build them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import official
import random_weights

# The published tokenizer's end-of-text is its highest id; it is so here too.
VOCAB, LENGTH, EMBED = 60, 9, 20
TEXT = {"context_length": LENGTH, "vocab_size": VOCAB, "width": 32, "heads": 2, "layers": 2}
VIT = {"layers": 2, "width": 48, "head_width": 16, "patch_size": 8, "image_size": 24}
RESNET = {"layers": [2, 1, 1, 2], "width": 8, "image_size": 64, "head_width": 64, "patch_size": None}
SCALES = {"embedding": 1.0, "logit_scale": 0.3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
  """An official module, the JSON file that would lie beside it, and its two functions, of NCHW pixels and of ids."""

  module: Any
  description: dict[str, Any]
  images: Callable[[Any], Any]
  texts: Callable[[Any], Any]

  def arrays(self):
    return {name: tensor.numpy().copy() for name, tensor in self.module.state_dict().items()}


def fill(module, seed):
  """Draws every tensor that is not a counter."""
  import torch

  state = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
  arrays = random_weights.draw({name: tuple(tensor.shape) for name, tensor in state.items()}, seed, scales=SCALES)
  for name, tensor in state.items():
    tensor.copy_(torch.from_numpy(np.asarray(arrays[name])))


def open_clip(vision, *, quick_gelu=False, own_text_tower=False, seed=0, text=TEXT):
  """Of open_clip's CLIP or, with a text tower of its own, CustomTextCLIP."""
  model = official.load("open_clip.model")
  description = {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu}
  module = (model.CustomTextCLIP if own_text_tower else model.CLIP)(**description).eval()
  fill(module, seed)
  return Small(module=module, description=description, images=module.encode_image, texts=module.encode_text)


def hugging_face(*, hidden_act="quick_gelu", eos=VOCAB - 1, seed=0, vocab=VOCAB, length=LENGTH):
  """Of transformers' CLIPModel."""
  transformers = official.load("transformers")
  config = transformers.CLIPConfig(
    text_config={
      "vocab_size": vocab,
      "hidden_size": 32,
      "intermediate_size": 72,
      "num_hidden_layers": 2,
      "num_attention_heads": 4,
      "max_position_embeddings": length,
      "hidden_act": hidden_act,
      "bos_token_id": 0,
      "eos_token_id": eos,
    },
    vision_config={
      "hidden_size": 48,
      "intermediate_size": 100,
      "num_hidden_layers": 2,
      "num_attention_heads": 3,
      "image_size": 24,
      "patch_size": 8,
      "hidden_act": hidden_act,
    },
    projection_dim=EMBED,
  )
  module = transformers.CLIPModel(config).eval()
  fill(module, seed)
  pooled = lambda output: getattr(output, "pooler_output", output)  # noqa: E731
  return Small(
    module=module,
    description=config.to_dict(),
    images=lambda pixels: pooled(module.get_image_features(pixels)),
    texts=lambda ids: pooled(module.get_text_features(ids)),
  )


def pixels(side, batch=3, seed=0):
  """Normalised pixels, NHWC: noise about a colour of each picture's own, which averages do not take out."""
  rng = np.random.default_rng(seed)
  colours = 2 * rng.standard_normal((batch, 1, 1, 3))
  return (colours + rng.standard_normal((batch, side, side, 3))).astype(np.float32)


def ids(batch=4, seed=0, end=VOCAB - 1, after=0):
  """Captions of several lengths that cover most of the vocabulary, each with an end and then `after`."""
  rng = np.random.default_rng(seed)
  found = rng.integers(1, VOCAB - 1, (batch, LENGTH))
  found[found == end] = 1
  for row, last in enumerate(rng.integers(2, LENGTH, batch)):
    found[row, last] = end
    found[row, last + 1 :] = after
  return found.astype(np.int32)
