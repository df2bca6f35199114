"""pytorch-fid's Inception v3 with random weights, and pictures for it."""

from unittest import mock

import numpy as np
import official
import random_weights

SEED = 7
GAIN = 1.25  # of the random kernels: with it activations neither grow nor vanish over the network's depth
DIMS = (64, 192, 768, 2048)


def network():
  """pytorch-fid's network of its published size, with random weights."""
  module, torch = official.load("pytorch_fid.inception"), official.load("torch")
  download = mock.patch.object(module, "load_state_dict_from_url", return_value={})
  with download, mock.patch.object(torch.nn.Module, "load_state_dict"):
    net = module.fid_inception_v3()
  random_weights.fill(net, seed=SEED, gain=GAIN)
  return net.eval()


def as_pytorch_fid(network, dims, resized=False):
  """pytorch-fid's own model of features, one output for each of `dims`."""
  module = official.load("pytorch_fid.inception")
  blocks = [module.InceptionV3.BLOCK_INDEX_BY_DIM[dim] for dim in dims]
  with mock.patch.object(module, "fid_inception_v3", return_value=network):
    return module.InceptionV3(blocks, resize_input=not resized).eval()


def pictures(rng, count, height, width, contrast=1.0):
  """Random smooth pictures: a few waves of each channel, so that neighbours are alike as in photographs."""
  y, x = np.mgrid[:height, :width] / max(height, width)
  images = []
  for _ in range(count):
    waves = [np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.uniform(-4, 4, (3, 3))]
    images.append(127.5 + 127.5 * contrast * np.stack(waves, axis=-1) * rng.uniform(0.3, 1))
  return np.stack(images).round().astype(np.uint8)
