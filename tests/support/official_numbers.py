"""The official modules whose numbers are kept: each computes its `Recorded` anew."""

import importlib.metadata

import numpy as np
import official
import official_dvae
import official_inception
import published_clip
import small_peers
import small_vqgans
from recorded import Recorded


def made_by(*packages):
  return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (*packages, "torch"))


def shapes_of(module):
  return {name: tuple(t.shape) for name, t in module.state_dict().items() if t.is_floating_point()}


def dvae_half(half):
  module, rng = official_dvae.modules()[half], np.random.default_rng(11)
  if half == "encoder":
    x_BHWC = rng.uniform(0.1, 0.9, (1, 2, 2, 3)).repeat(16, axis=1).repeat(16, axis=2).astype(np.float32)
    inputs, outputs = {"pixels": x_BHWC}, {"logits": official_dvae.theirs(module, x_BHWC)}
  else:
    codes_Bhw = rng.integers(0, official_dvae.VOCAB, (1, 3, 3))
    one_hot_BhwV = np.eye(official_dvae.VOCAB, dtype=np.float32)[codes_Bhw]
    inputs, outputs = {"codes": codes_Bhw}, {"statistics": official_dvae.theirs(module, one_hot_BhwV)}
  draw = {
    "seed": ("encoder", "decoder").index(half),
    "gain": official_dvae.GAIN,
    "scales": official_dvae.scales(module),
  }
  sizes = {"shapes": shapes_of(module), "draw": draw, "description": {}}
  return Recorded(**sizes, made_by=made_by("dall-e"), inputs=inputs, outputs=outputs)


def clip(small, package):
  import torch

  side = 64 if small.description.get("vision_cfg") == published_clip.RESNET else 24
  pixels_BHWC, ids_BT = published_clip.pixels(side), published_clip.ids()
  with torch.no_grad():
    images_BE = small.images(torch.from_numpy(pixels_BHWC.transpose(0, 3, 1, 2).copy())).numpy()
    texts_BE = small.texts(torch.from_numpy(ids_BT).long()).numpy()
  return Recorded(
    shapes=shapes_of(small.module),
    draw={"seed": 0, "scales": published_clip.SCALES},
    description=small.description,
    made_by=made_by(package),
    inputs={"pixels": pixels_BHWC, "ids": ids_BT},
    outputs={"images": images_BE, "texts": texts_BE},
  )


def inception():
  torch = official.load("torch")
  network, dims = official_inception.network(), official_inception.DIMS
  images_BHWC = official_inception.pictures(np.random.default_rng(0), 2, 40, 61)
  with torch.no_grad():
    x_BCHW = torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2) / np.float32(255))
    maps = official_inception.as_pytorch_fid(network, dims)(x_BCHW)
  return Recorded(
    shapes=shapes_of(network),
    draw={"seed": official_inception.SEED, "gain": official_inception.GAIN},
    description={},
    made_by=made_by("pytorch-fid"),
    inputs={"images": images_BHWC},
    outputs={str(dim): x_BDHW.mean((2, 3)).numpy() for dim, x_BDHW in zip(dims, maps)},
  )


def vqgan(name):
  module = small_vqgans.filled(name)
  sizes = small_vqgans.OFFICIAL[name][1]
  side, grid = sizes["resolution"], sizes["resolution"] // 2 ** (len(sizes["ch_mult"]) - 1)
  images_BHWC = small_vqgans.pictures(2, side)
  codes_Bhw = np.random.default_rng(1).integers(0, small_vqgans.VOCAB, (2, grid, grid))
  latents, _, pixels = (small_vqgans.to_numpy(x) for x in small_vqgans.outputs(module, images_BHWC, codes_Bhw))
  return Recorded(
    shapes=shapes_of(module),
    draw={"gain": small_vqgans.GAIN, "scales": small_vqgans.EMBEDDINGS},
    description={"image": side},
    made_by=made_by("rudalle" if name == "rudalle" else "taming-transformers-rom1504"),
    inputs={"images": images_BHWC, "codes": codes_Bhw},
    outputs={"latents": latents, "pixels": pixels},
  )


def peer(name):
  text, grid = small_peers.SMALL.values()
  text_BT, codes_BN = small_peers.tokens(text, grid)
  if name == "mindalle":
    module = small_peers.mindalle(text, grid, layers=2)
    parts = small_peers.their_parts(module, text_BT, codes_BN)
    outputs = dict(zip(("text", "image"), parts))
  else:
    module = small_peers.rudalle(3, text, grid, layers=3)
    outputs = {"joint": small_peers.their_joint(module, text_BT, codes_BN)}
  return Recorded(
    shapes=shapes_of(module),
    draw={"scales": small_peers.SCALES},
    description={"heads": small_peers.HEADS},
    made_by=made_by("crfm-helm" if name == "mindalle" else "rudalle"),
    inputs={"text": text_BT, "codes": codes_BN},
    outputs=outputs,
  )


NUMBERS = {
  "openai-dvae-encoder": lambda: dvae_half("encoder"),
  "openai-dvae-decoder": lambda: dvae_half("decoder"),
  "open-clip-vit": lambda: clip(published_clip.open_clip(published_clip.VIT, quick_gelu=True), "open_clip_torch"),
  "open-clip-resnet": lambda: clip(published_clip.open_clip(published_clip.RESNET), "open_clip_torch"),
  "hugging-face-clip": lambda: clip(published_clip.hugging_face(hidden_act="gelu"), "transformers"),
  "inception": inception,
  "taming-vq": lambda: vqgan("vq"),
  "taming-gumbel-f8": lambda: vqgan("gumbel-f8"),
  "rudalle-vqgan": lambda: vqgan("rudalle"),
  "mindalle": lambda: peer("mindalle"),
  "rudalle": lambda: peer("rudalle"),
}
