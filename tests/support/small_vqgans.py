"""The official VQGANs in small sizes, and what their classes compute."""

import numpy as np
import official
import official_vqgan
import random_weights

# Two channels a group of normalisation: with one, the bias of the convolution before it would be taken off again.
WIDTH = 64
VOCAB = 200
LOSS = {"target": "taming.modules.losses.vqperceptual.DummyLoss"}
DUMMY_SCHEDULE = {"target": "taming.modules.losses.vqperceptual.DummyLoss"}
EMBEDDINGS = {r"embed": 1.0}
GAIN = 1.5


def sizes(multiples, blocks, image, attention, latent=32, width=WIDTH):
  return {
    "double_z": False,
    "z_channels": latent,
    "resolution": image,
    "in_channels": 3,
    "out_ch": 3,
    "ch": width,
    "ch_mult": list(multiples),
    "num_res_blocks": blocks,
    "attn_resolutions": list(attention),
    "dropout": 0.0,
  }


SHALLOW = sizes((1, 2), 2, 16, (8,))
F8 = sizes((1, 1, 2, 2), 1, 16, (2, 4))
F16 = sizes((1, 1, 2, 2, 3), 1, 32, (2,))


def vq(dd, vocab=VOCAB, code_dim=24):
  return official_vqgan.taming().VQModel(ddconfig=dd, lossconfig=LOSS, n_embed=vocab, embed_dim=code_dim).eval()


def gumbel(dd, vocab=VOCAB):
  module = official_vqgan.taming().GumbelVQ
  code_dim = dd["z_channels"]  # its logits are made of as many channels as its latents have
  return module(dd, LOSS, vocab, code_dim, temperature_scheduler_config=DUMMY_SCHEDULE).eval()


def rudalle(dd, vocab=VOCAB):
  omegaconf = official.load("omegaconf")
  params = {"ddconfig": dd, "n_embed": vocab, "embed_dim": dd["z_channels"], "kl_weight": 1e-8}
  return official_vqgan.rudalle().VQGanGumbelVAE(omegaconf.OmegaConf.create({"model": {"params": params}})).eval()


OFFICIAL = {
  "vq": (vq, SHALLOW),
  "vq-f8": (vq, F8),
  "vq-f16": (vq, F16),
  "gumbel-f8": (gumbel, F8),
  "rudalle": (rudalle, F8),
}


def filled(name):
  """The official module with random weights."""
  make, dd = OFFICIAL[name]
  module = make(dd)
  random_weights.fill(module, gain=GAIN, scales=EMBEDDINGS)
  return module


def pictures(count, side, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def to_torch(x_BHWC):
  return official.load("torch").from_numpy(np.asarray(x_BHWC).transpose(0, 3, 1, 2).copy())


def to_numpy(x_BCHW):
  return x_BCHW.detach().numpy().transpose(0, 2, 3, 1)


def codebook(inner):
  quantize = inner.quantize
  return quantize.embed if hasattr(quantize, "embed") else quantize.embedding


def outputs(theirs, images, codes):
  """Latents, the logits of the Gumbel variant, and what is decoded: as the official class computes them."""
  torch = official.load("torch")
  inner = getattr(theirs, "model", theirs)
  with torch.no_grad():
    z = inner.quant_conv(inner.encoder(to_torch(images).float() / 127.5 - 1))
    scores = inner.quantize.proj(z) if hasattr(inner.quantize, "proj") else z
    x = inner.decode(codebook(inner)(torch.from_numpy(codes)).permute(0, 3, 1, 2))
  return z, scores, x
