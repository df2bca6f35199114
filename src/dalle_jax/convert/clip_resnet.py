"""The residual network of a published CLIP's file, which OpenAI and open_clip name alike.

H W sides of a kernel, C channels.
"""

from typing import Any

import numpy as np
from jaxtyping import PyTree

from dalle_jax.convert import clip_parts as parts
from dalle_jax.convert.clip_description import heads_by_width
from dalle_jax.convert.taking import Taking
from dalle_jax.errors import UserError
from dalle_jax.models.openai_clip import ResNet

POOL = "visual.attnpool."


def vision(taking: Taking) -> tuple[ResNet, PyTree, int]:
  """The sizes and parameters of the network, and the width of the shared space."""
  width = taking.shape("visual.conv3.weight", 4)[0]
  side = parts.side(taking, f"{POOL}positional_embedding")
  embed, wide = taking.shape(f"{POOL}c_proj.weight", 2)[0], 32 * width
  stem, before = {}, 3
  for i, after in enumerate((width // 2, width // 2, width), start=1):
    stem |= _conv_and_norm(taking, f"visual.conv{i}", f"visual.bn{i}", str(i), (after, before, 3))
    before = after
  params: dict[str, Any] = {"stem": stem}
  first, second, third, fourth = (max(1, taking.count(f"visual.layer{stage}.")) for stage in (1, 2, 3, 4))
  blocks = (first, second, third, fourth)
  for stage, count in enumerate(blocks, start=1):
    narrow, found = width * 2 ** (stage - 1), {}
    for j in range(count):
      found[f"block_{j}"] = _bottleneck(taking, f"visual.layer{stage}.{j}.", before, narrow, widens=j == 0)
      before = 4 * narrow
    params[f"stage_{stage}"] = found
  params["pool"] = {
    "position": taking.take(f"{POOL}positional_embedding", side**2 + 1, wide),
    "query": parts.linear(taking, f"{POOL}q_proj", wide, wide),
    "key": parts.linear(taking, f"{POOL}k_proj", wide, wide),
    "value": parts.linear(taking, f"{POOL}v_proj", wide, wide),
    "head": parts.linear(taking, f"{POOL}c_proj", wide, embed),
  }
  heads = heads_by_width(wide, vision=False)
  return ResNet(image=32 * side, width=width, blocks=blocks, heads=heads), params, embed


def _bottleneck(taking: Taking, prefix: str, before: int, narrow: int, *, widens: bool) -> PyTree:
  shapes = {"1": (narrow, before, 1), "2": (narrow, narrow, 3), "3": (4 * narrow, narrow, 1)}
  found: dict[str, Any] = {}
  for i, shape in shapes.items():
    found |= _conv_and_norm(taking, f"{prefix}conv{i}", f"{prefix}bn{i}", i, shape)
  if widens:
    past = (4 * narrow, before, 1)
    found |= _conv_and_norm(taking, f"{prefix}downsample.0", f"{prefix}downsample.1", "past", past)
  return found


def _conv_and_norm(taking: Taking, conv: str, norm: str, name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
  after, before, side = shape
  kernel_HWCC = taking.take(f"{conv}.weight", after, before, side, side).transpose(2, 3, 1, 0)
  theirs = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
  statistics = {ours: taking.take(f"{norm}.{there}", after) for ours, there in theirs.items()}
  if (statistics["variance"] < 0).any():
    raise UserError(f"{norm}.running_var of this CLIP holds a negative variance: the file is damaged, fetch it again")
  return {f"conv_{name}": np.ascontiguousarray(kernel_HWCC), f"norm_{name}": statistics}
