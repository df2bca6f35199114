"""Inception v3's weights as pytorch-fid's state dict holds them, drawn at random; thin ones are quickly computed."""

import numpy as np
import random_weights

from dalle_jax.models import inception

THIN = inception.Config(thin=16, classes=11)
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


def official(cfg=THIN, seed=0):
  """Arrays by their official names."""
  shapes = {}

  def walk(tree, path):
    if "kernel" not in tree:
      for name, inside in tree.items():
        walk(inside, [*path, name])
    elif path == ["fc"]:
      shapes.update({"fc.weight": tree["kernel"][::-1], "fc.bias": tree["bias"]})
    else:
      height, width, inputs, outputs = tree["kernel"]
      shapes[".".join([*path, "conv", "weight"])] = (outputs, inputs, height, width)
      shapes.update({".".join([*path, "bn", theirs]): tree[ours] for ours, theirs in NORM.items()})

  walk(inception.shapes(cfg), [])
  arrays = random_weights.draw(shapes, seed, gain=1.25)
  counters = {name.replace("running_mean", "num_batches_tracked"): np.int64(3) for name in shapes if "_mean" in name}
  return arrays | counters
