"""What a CLIP's arrays do not say and the JSON file beside them does: heads, non-linearity, end-of-text, normalisation.

Read are Hugging Face's config.json and open_clip's (open_clip_config.json, or one of its model_configs).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dalle_jax.errors import UserError
from dalle_jax.models.clip import CHANNEL_MEAN, CHANNEL_STD

QUICK_GELU = {"quick_gelu": True, "gelu": False}
# By default 64 numbers a head; of the widest vision towers, 16 heads (open_clip's model_configs).
HEAD = 64
SIXTEEN_HEADS = (1280, 1408, 1664, 1792)
# What open_clip's files may say without changing what the towers compute, beside what is read here.
NO_MATTER_VISION = {"layers", "width", "mlp_ratio", "patch_size", "patch_dropout", "pos_embed_type"}
NO_MATTER_TEXT = {"context_length", "vocab_size", "width", "layers", "mlp_ratio", "pad_id"}
NO_MATTER = {"embed_dim", "custom_text", "init_logit_scale", "nonscalar_logit_scale"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """Of the two towers; heads None: by the width, as in every CLIP published without a file that says otherwise.

  vision_layers: of each stage of a residual network, or one number of a transformer's.
  """

  vision_quick_gelu: bool
  text_quick_gelu: bool
  vision_heads: int | None = None
  text_heads: int | None = None
  vision_layers: tuple[int, ...] | None = None
  text_layers: int | None = None
  image: int | None = None
  end: int | None = None
  mean: tuple[float, float, float] = CHANNEL_MEAN
  std: tuple[float, float, float] = CHANNEL_STD


OPENAI = Description(vision_quick_gelu=True, text_quick_gelu=True)


def described(data: Mapping[str, Any]) -> Description:
  """What a JSON file says. Raises UserError where it is no CLIP's, or of one that is not built here."""
  try:
    if "vision_config" in data and "text_config" in data:
      return _hugging_face(data)
    cfg = data.get("model_cfg", data)
    if "vision_cfg" in cfg and "text_cfg" in cfg:
      return _open_clip(cfg, data.get("preprocess_cfg") or {})
  except UserError:
    raise
  except (TypeError, AttributeError, ValueError) as error:
    raise UserError(f"the file that describes the CLIP can't be read ({error}): fetch it again") from error
  raise UserError("the file that describes the CLIP is neither Hugging Face's config.json nor open_clip's")


def heads_by_width(width: int, *, vision: bool) -> int:
  """As many as every published CLIP of this width has. Raises UserError for a width that none has."""
  if vision and width in SIXTEEN_HEADS:
    return 16
  if width % HEAD:
    raise UserError(f"no published CLIP is {width} wide, so its heads are not known: name its JSON file too")
  return width // HEAD


def _hugging_face(data: Mapping[str, Any]) -> Description:
  # What such a file leaves out is the class's default; older files repeat themselves under *_dict, which counts.
  vision = {**data["vision_config"], **(data.get("vision_config_dict") or {})}
  text = {**data["text_config"], **(data.get("text_config_dict") or {})}
  for name, tower in (("vision", vision), ("text", text)):
    if tower.get("layer_norm_eps", 1e-5) != 1e-5:
      raise UserError(f"the CLIP's {name} tower has a layer_norm_eps of {tower['layer_norm_eps']}: 1e-05 is wanted")
  end = text.get("eos_token_id", 49407)
  return Description(
    vision_quick_gelu=_quick(vision.get("hidden_act", "quick_gelu")),
    text_quick_gelu=_quick(text.get("hidden_act", "quick_gelu")),
    vision_heads=int(vision.get("num_attention_heads", 12)),
    text_heads=int(text.get("num_attention_heads", 8)),
    vision_layers=(int(vision.get("num_hidden_layers", 12)),),
    text_layers=int(text.get("num_hidden_layers", 12)),
    image=int(vision.get("image_size", 224)),
    end=None if end == 2 else int(end),  # 2 stood there by mistake in the first files, and is read as "the highest"
  )


def _open_clip(cfg: Mapping[str, Any], preprocess: Mapping[str, Any]) -> Description:
  vision, text = dict(cfg["vision_cfg"]), dict(cfg["text_cfg"])
  rest = {key: value for key, value in cfg.items() if key not in ("vision_cfg", "text_cfg")}
  quick = bool(rest.pop("quick_gelu", False))
  head, image = int(vision.pop("head_width", HEAD)), int(vision.pop("image_size", 224))
  heads, pool, end = int(text.pop("heads", 8)), text.pop("pool_type", "argmax"), int(text.pop("eos_id", 2))
  layers = vision.get("layers", 12)
  is_resnet = isinstance(layers, list | tuple)
  width = int(vision.get("width", 768))
  _refuse("vision tower's pool_type", vision.pop("pool_type", "tok"), "tok")
  _refuse("text tower's proj_type", text.pop("proj_type", "linear"), "linear")
  _refuse("resize_mode", preprocess.get("resize_mode", "shortest"), "shortest")
  _refuse("interpolation", preprocess.get("interpolation", "bicubic"), "bicubic")
  if pool not in ("argmax", "eos"):
    raise UserError(f"the CLIP's text tower has the pool_type {pool!r}: argmax or eos is wanted")
  for where, part, known in (
    ("vision", vision, NO_MATTER_VISION),
    ("text", text, NO_MATTER_TEXT),
    ("", rest, NO_MATTER),
  ):
    for key, value in part.items():
      if key not in known and value:
        raise UserError(f"the CLIP's {where} {key} is {value!r}, which this program does not build".replace("  ", " "))
  return Description(
    vision_quick_gelu=quick,
    text_quick_gelu=quick,
    vision_heads=None if is_resnet else width // head,
    text_heads=heads,
    vision_layers=tuple(map(int, layers)) if is_resnet else (int(layers),),
    text_layers=int(text.get("layers", 12)),
    image=image,
    end=end if pool == "eos" else None,
    mean=_three(preprocess.get("mean"), CHANNEL_MEAN),
    std=_three(preprocess.get("std"), CHANNEL_STD),
  )


def _refuse(what: str, got: Any, wanted: str) -> None:
  if got != wanted:
    raise UserError(f"the CLIP's {what} is {got!r}: {wanted} is wanted")


def _quick(name: Any) -> bool:
  if name not in QUICK_GELU:
    raise UserError(f"the CLIP's hidden_act is {name!r}: {' or '.join(QUICK_GELU)} is wanted")
  return QUICK_GELU[name]


def _three(found: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
  if not found:
    return default
  red, green, blue = (float(x) for x in found)
  return red, green, blue
