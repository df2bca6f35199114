"""The transformer on held-out pairs, teacher-forced: nats a token and a dimension of text and of image tokens.

B pairs of a batch, N pairs, T text positions, P image tokens.
"""

import math

import numpy as np
from jaxtyping import Int, PyTree

from dalle_jax.evaluation.metrics.figures import Figure, of_mean
from dalle_jax.models import transformer
from dalle_jax.sampling import likelihood
from dalle_jax.sampling.devices import Devices


def measure(
  params: PyTree,
  cfg: transformer.Config,
  text_BT: Int[np.ndarray, "B T"],
  codes_BP: Int[np.ndarray, "B P"],
  devices: Devices = Devices(),
) -> dict[str, np.ndarray]:
  """The columns of each pair, -ln p in nats: of all text tokens, of those that are no pads and how many, of all image
  tokens, and of each image token.
  """
  over = {"model": cfg, "mesh": devices.mesh, "rules": devices.rules_for(len(text_BT))}
  found = likelihood.log_likelihoods(params, devices.put(text_BT), devices.put(codes_BP), **over)
  text_nats_BT, image_nats_BP = (-np.asarray(each, np.float64) for each in found)
  present_BT = text_BT < cfg.text_vocab
  return {
    "text": text_nats_BT.sum(axis=1),
    "text_no_pads": (text_nats_BT * present_BT).sum(axis=1),
    "words": present_BT.sum(axis=1),
    "image": image_nats_BP.sum(axis=1),
    "image_by_token": image_nats_BP.astype(np.float32),
  }


def figures(
  columns: dict[str, np.ndarray],
  cfg: transformer.Config,
  *,
  text_weight: float,
  image_weight: float,
  pad_targets: bool,
  dimensions: int,
) -> list[Figure]:
  """Losses as training reports them, and the image's by dimension of a picture: the codes' nats alone.

  What the dVAE loses of a picture is not in them: they are not the bits a dimension of models of pixels.
  """
  positions = cfg.grid**2
  text_N, image_N = columns["text"] / cfg.text, columns["image"] / positions
  no_pads = float(columns["text_no_pads"].sum() / max(1, columns["words"].sum()))
  a_token, a_dimension = "nats a token", "nats a dimension"
  found = [
    of_mean("loss_text", text_N, a_token),
    Figure(metric="loss_text_no_pads", value=no_pads, unit=a_token, examples=len(text_N)),
    of_mean("loss_image", image_N, a_token),
    of_mean("image_by_dimension", columns["image"] / dimensions, a_dimension),
    of_mean("image_bits_by_dimension", columns["image"] / dimensions / math.log(2), "bits a dimension"),
  ]
  if pad_targets:
    weighted_N = text_weight * text_N + image_weight * image_N
    return [of_mean("loss", weighted_N, a_token), *found]
  loss = text_weight * no_pads + image_weight * float(image_N.mean())
  return [Figure(metric="loss", value=loss, unit=a_token, examples=len(text_N)), *found]
