"""Pairs of pictures and captions through the models, a batch at a time: codes, likelihoods, all with all.

P pictures, C captions, B pairs of a batch, M pairs with heat maps, T text positions, N codes of a picture, H W pixels.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8

from dalle_jax.data.images import CentreCrop
from dalle_jax.evaluation.pairs import Pairs
from dalle_jax.evaluation.scores import Score
from dalle_jax.sampling import likelihood
from dalle_jax.sampling.devices import even_part
from dalle_jax.sampling.drawer import Drawer

Progress = Callable[[str, int, int], object]


def encode(model: Drawer, pairs: Pairs, batch: int, progress: Progress) -> Int[np.ndarray, "P N"]:
  """The codes of every picture's middle. Raises UserError where one can't be read."""
  codes_PN = np.zeros((len(pairs.pictures), model.transformer.grid**2), np.int32)
  progress("reading pictures", 0, len(codes_PN))
  for rows in model.devices.batches(len(codes_PN), batch):
    images = np.stack([cropped(model, pairs, int(row)) for row in rows])
    codes_PN[rows] = model.encode(images).reshape(len(rows), -1)
    progress("reading pictures", int(rows[-1]) + 1, len(codes_PN))
  return codes_PN


def score_pairs(
  model: Drawer,
  pairs: Pairs,
  text_CT: Int[np.ndarray, "C T"],
  codes_PN: Int[np.ndarray, "P N"],
  *,
  maps: int,
  batch: int,
  progress: Progress,
) -> tuple[tuple[Score, ...], Float[np.ndarray, "M N"]]:
  """Every pair's score, and of the first `maps` of them -ln p of every code."""
  cfg, total, devices = model.transformer, len(pairs.pairs), model.devices
  how = {"model": cfg, "mesh": devices.mesh, "rules": devices.rules}
  told, kept = [], []
  progress("scoring pairs", 0, total)
  for rows in devices.batches(total, batch):
    p, c = np.array([pairs.pairs[row] for row in rows]).T
    text_BT, codes_BN = devices.put(text_CT[c]), devices.put(codes_PN[p])
    params = model.transformer_params
    found = likelihood.log_likelihoods(params, text_BT, codes_BN, **how)
    none_BT = devices.put(np.asarray(likelihood.no_caption(cfg, len(rows))))
    without_B = np.asarray(likelihood.image_given_caption(params, none_BT, codes_BN, **how))
    text_nats_BT, image_nats_BN = (np.asarray(each, np.float64) for each in found)
    present_BT = np.asarray(likelihood.present(cfg, text_BT))
    for i in range(min(len(rows), total - len(told))):
      told.append(
        Score(
          file=pairs.pictures[p[i]],
          caption=pairs.captions[c[i]],
          tokens=cfg.text,
          words=int(present_BT[i].sum()),
          codes=cfg.grid**2,
          dimensions=model.dvae.image**2 * 3,
          text=float(text_nats_BT[i].sum()),
          text_no_pads=float((text_nats_BT[i] * present_BT[i]).sum()),
          image=float(image_nats_BN[i].sum()),
          image_no_caption=float(without_B[i]),
        )
      )
      if len(kept) < maps:
        kept.append(-image_nats_BN[i])
    progress("scoring pairs", len(told), total)
  return tuple(told), np.array(kept)


def all_with_all(
  model: Drawer, text_CT: Int[np.ndarray, "C T"], codes_PN: Int[np.ndarray, "P N"], batch: int, progress: Progress
) -> Float[np.ndarray, "P C"]:
  """ln p(picture | caption) of every picture and every caption, a batch of them at a time; a caption is read once."""
  devices, image_PC = model.devices, np.zeros((len(codes_PN), len(text_CT)))
  how = {"model": model.transformer, "mesh": devices.mesh, "rules": devices.rules}
  pictures = even_part(len(codes_PN), batch)
  captions = even_part(len(text_CT), max(1, batch // pictures)) if pictures == len(codes_PN) else 1
  captions, pictures = devices.filled(captions, pictures)
  what, done, params = "every picture with every caption", 0, model.transformer_params
  progress(what, 0, image_PC.size)
  for first in range(0, len(text_CT), captions):
    # Last, smaller batches would be compiled anew, so they are filled up with the last caption and the last picture.
    c = np.minimum(np.arange(first, first + captions), len(text_CT) - 1)
    texts = likelihood.read_captions(params, devices.put(text_CT[c]), **how)
    for start in range(0, len(codes_PN), pictures):
      p = np.minimum(np.arange(start, start + pictures), len(codes_PN) - 1)
      codes_BN = devices.put(np.tile(codes_PN[p], (captions, 1)))
      nats_B = np.asarray(likelihood.image_given_read(params, texts, codes_BN, **how))
      image_PC[np.ix_(p, c)] = nats_B.reshape(captions, pictures).T
      done += (c[-1] - c[0] + 1) * (p[-1] - p[0] + 1)
      progress(what, int(done), image_PC.size)
  return image_PC


def cropped(model: Drawer, pairs: Pairs, number: int) -> UInt8[np.ndarray, "H W 3"]:
  """The middle of a picture, as large as the dVAE's pictures are."""
  return CentreCrop(size=model.dvae.image)(pairs.picture(number), np.random.default_rng(0))
