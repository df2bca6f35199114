"""OpenAI's own modules of its dVAE, in the smallest sizes that their classes take, with random weights."""

import re

import numpy as np
import official
import random_weights

HIDDEN, VOCAB, CODE_DIM, BLOCKS = 64, 512, 16, 2
GAIN = 4.0


def modules():
  """The encoder and the decoder, by name."""
  import torch

  torch.set_num_threads(1)  # small convolutions are quickest so, and other tests share the cores
  encoder, decoder = official.load("dall_e.encoder"), official.load("dall_e.decoder")
  sizes = {"n_hid": HIDDEN, "n_blk_per_group": BLOCKS, "vocab_size": VOCAB}
  made = {"encoder": encoder.Encoder(**sizes), "decoder": decoder.Decoder(n_init=CODE_DIM, **sizes)}
  for seed, module in enumerate(made.values()):
    random_weights.fill(module, seed=seed, gain=GAIN, scales=scales(module))
  return made


def scales(module):
  """Deviations with which each tensor matters: a branch counts 1/64, so it gains what the way around it does not."""
  biases = (
    {r"id_path\.b": 0.5} | {rf"res_path\.conv_{i}\.b": 2.0**i for i in (1, 2, 3)} | {r"res_path\.conv_4\.b": 32.0}
  )
  plain = [name for name in module.state_dict() if name.endswith(("id_path.w", "output.conv.w"))]
  return biases | {re.escape(name): module.state_dict()[name][0].numel() ** -0.5 for name in plain}


def theirs(module, x_BHWC):
  """Their output, channels last."""
  import torch

  with torch.no_grad():
    return module(torch.from_numpy(np.ascontiguousarray(x_BHWC.transpose(0, 3, 1, 2)))).numpy().transpose(0, 2, 3, 1)
