"""A published CLIP's weights: OpenAI's files, open_clip's, and Hugging Face's CLIPModel.

... the shape that an array has.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree, Shaped

from dalle_jax.convert import clip_names, clip_resnet, clip_transformers
from dalle_jax.convert.clip_description import OPENAI, Description, described
from dalle_jax.convert.taking import Taking
from dalle_jax.errors import UserError
from dalle_jax.models.openai_clip import Config, ResNet

# Scalars that only OpenAI's own archives carry; they say what the shapes say too.
OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")
NOT_WEIGHTS = (".num_batches_tracked", ".position_ids")
MASK = "attn_mask"  # archives of compiled code keep it: none before the diagonal, all after it


def recognises(names: Collection[str]) -> bool:
  """Whether these are the names of a CLIP's state dict."""
  return clip_names.of([_plain(name) for name in names]) is not None


def read(
  arrays: Mapping[str, Shaped[np.ndarray, "..."]], description: Mapping[str, Any] | None = None
) -> tuple[Config, PyTree]:
  """The configuration and the float32 parameters of `models.openai_clip`.

  description: the JSON file that lies beside the weights, decoded. The arrays alone do not say which GELU was used, so
  only OpenAI's own archives, all of QuickGELU, do without it. Raises UserError for what is missing, left over,
  misshapen or not finite, and where the description is wanted or does not fit.
  """
  plain = {_plain(name): array for name, array in arrays.items() if not name.endswith(NOT_WEIGHTS)}
  for name in [name for name in plain if name.split(".")[-1] == MASK]:
    _check_causal(name, plain.pop(name))
  names = clip_names.of(plain)
  if names is None:
    raise UserError("these are not the weights of a CLIP: they lack the names of OpenAI's, open_clip's, Hugging Face's")
  scalars = {name: plain.pop(name) for name in OPENAI_SCALARS if name in plain}
  if description is None and len(scalars) < len(OPENAI_SCALARS):
    raise UserError(
      "these weights of a CLIP do not say whether they are of GELU or QuickGELU: name the JSON file that describes them"
      " too (Hugging Face's config.json, open_clip's open_clip_config.json or one of its model_configs)"
    )
  said = OPENAI if description is None else described(description)
  taking = Taking(plain, "this CLIP")
  is_resnet = any(name.startswith(clip_resnet.POOL) for name in plain)
  vision, vision_params, embed = (
    clip_resnet.vision(taking) if is_resnet else clip_transformers.vision(taking, names, said)
  )
  text, text_params = clip_transformers.text(taking, names, said, embed)
  params = {"vision": vision_params, "text": text_params, "logit_scale": _scale(taking, plain)}
  taking.finish()
  for scalar, ours in zip(OPENAI_SCALARS, (vision.image, text.length, text.vocab)):
    if scalar in scalars and int(scalars[scalar]) != ours:
      raise UserError(f"this CLIP's {scalar} is {int(scalars[scalar])}, and its arrays are of {ours}: it is damaged")
  cfg = Config(vision=vision, text=text, embed=embed, mean=said.mean, std=said.std)
  _check_pair(cfg, said)
  return cfg, params


def _check_causal(name: str, mask: np.ndarray) -> None:
  if (
    mask.ndim != 2
    or not mask.size
    or not np.array_equal(np.isneginf(mask), np.triu(np.ones(mask.shape, bool), 1))
    or mask[0, 0] != 0
  ):
    raise UserError(f"{name} of this CLIP is not that of a causal text tower, and no other is built here")


def _check_pair(cfg: Config, said: Description) -> None:
  """Raises UserError where the description is of another network than the arrays: of whole layers they tell nothing."""
  vision = cfg.vision.blocks if isinstance(cfg.vision, ResNet) else (cfg.vision.stack.layers,)
  for what, told, found in (
    ("layers of pictures", said.vision_layers, vision),
    ("layers of captions", said.text_layers, cfg.text.stack.layers),
    ("pixels a side", said.image, cfg.vision.image),
  ):
    if told not in (None, found):
      raise UserError(f"the description has {told} {what}, the weights have {found}: they are not a pair, or cut short")


def _plain(name: str) -> str:
  """Without what training on several devices puts in front."""
  return name.removeprefix("module.")


def _scale(taking: Taking, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
  """open_clip may keep the scalar as an array of one."""
  alone = "logit_scale" not in arrays or not arrays["logit_scale"].ndim
  return taking.take("logit_scale") if alone else taking.take("logit_scale", 1).reshape(())
