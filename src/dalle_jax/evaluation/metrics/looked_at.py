"""What the networks and the judge see in pictures, at every blur radius, as columns to keep.

    inception@1  [N, D]   logits@1  [N, K]   clip@1     [N, E]   right@1  [N, A]
    claimed      [N, A]   caption   [N]      clip_text  [N, E]

N pictures, H W pixels, D features, K classes, E CLIP's shared space, A aspects of a caption, "all" first.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from dalle_jax.data import judge, scenes
from dalle_jax.data.judge import Verdict
from dalle_jax.evaluation.metrics.blur import blurred
from dalle_jax.evaluation.metrics.networks import Networks

ASPECTS = ("all", *(field.name for field in dataclasses.fields(Verdict)))


def columns(
  images_NHWC: UInt8[np.ndarray, "N H W 3"],
  networks: Networks,
  radii: Sequence[float | int],
  *,
  captions: Sequence[str] | None = None,
  claims: Sequence[scenes.Claims] | None = None,
) -> dict[str, np.ndarray]:
  """captions: whose vectors are kept too, where there is a CLIP; claims: what the judge asks of the pictures."""
  found = {}
  for radius in radii:
    seen_NHWC = blurred(images_NHWC, radius)
    if networks.inception is not None:
      found[f"inception@{radius:g}"], logits_NK = networks.inception.look(seen_NHWC)
      found |= {} if logits_NK is None else {f"logits@{radius:g}": logits_NK}
    if networks.clip is not None:
      found[f"clip@{radius:g}"] = networks.clip.pictures(seen_NHWC)
    if claims is not None:
      verdicts = judge.judge(seen_NHWC, list(claims))
      found[f"right@{radius:g}"] = np.array([[v.all_right, *dataclasses.astuple(v)] for v in verdicts])
  if claims is not None:
    found["claimed"] = np.array([[True, *(judge.says(each, aspect) for aspect in ASPECTS[1:])] for each in claims])
  if captions is not None and networks.clip is not None:
    found["clip_text"] = networks.clip.captions(list(captions))
    digests = [hashlib.sha256(caption.encode()).digest()[:8] for caption in captions]
    found["caption"] = np.frombuffer(b"".join(digests), np.uint64)  # by which equal ones are known
  return found
