"""What the first stage keeps of pictures: PSNR of the decoded ones, beside the mean picture's, and codes in use.

B batch, H W pixels, V codebook.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int, PyTree, UInt8

from dalle_jax.models import image_tokenizer
from dalle_jax.sampling.devices import Devices


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
  """PSNR in dB, of the mean squared error over all sub-pixels of all pictures; pixels in [0, 1].

  psnr: pictures decoded from their most likely codes; psnr_mean_picture: every picture replaced by the mean of all.
  counts_V: how often each code occurs.
  """

  pictures: int
  psnr: float
  psnr_mean_picture: float
  counts_V: Int[np.ndarray, " V"]

  @property
  def used(self) -> int:
    """Codes that occur at all."""
    return int((self.counts_V > 0).sum())

  @property
  def perplexity(self) -> float:
    """exp of the entropy of the codes' frequencies: V where all are used alike, 1 where only one is."""
    return perplexity(self.counts_V)


def reconstruct(
  params: PyTree,
  cfg: image_tokenizer.Config,
  images_BHWC: UInt8[np.ndarray, "B H W 3"],
  devices: Devices = Devices(),
) -> tuple[UInt8[np.ndarray, "B H W 3"], Int[np.ndarray, "B h w"]]:
  """The pictures decoded from their most likely codes, and the codes."""
  codes_Bhw = image_tokenizer.encode_images(params, cfg, devices.put(images_BHWC))
  return np.asarray(image_tokenizer.decode_images(params, cfg, codes_Bhw)), np.asarray(codes_Bhw)


def measure(
  params: PyTree,
  cfg: image_tokenizer.Config,
  batches: Iterable[UInt8[np.ndarray, "B H W 3"]],
  devices: Devices = Devices(),
) -> Reconstruction:
  """Measures over all pictures of the batches. Raises ValueError when there are none."""
  error, total, squares, counts_V, pictures = 0.0, 0.0, 0.0, np.zeros(cfg.vocab, np.int64), 0
  for images_BHWC in batches:
    decoded_BHWC, codes_Bhw = reconstruct(params, cfg, images_BHWC, devices)
    x_BHWC = images_BHWC / 255
    error += float(np.square(x_BHWC - decoded_BHWC / 255).sum())
    total, squares = total + x_BHWC.sum(axis=0), squares + float(np.square(x_BHWC).sum())
    counts_V += np.bincount(codes_Bhw.ravel(), minlength=cfg.vocab)
    pictures += images_BHWC.shape[0]
  if not pictures:
    raise ValueError("there is no picture to reconstruct")
  mean_HWC = total / pictures
  subpixels = pictures * mean_HWC.size
  return Reconstruction(
    pictures=pictures,
    psnr=psnr(error / subpixels),
    psnr_mean_picture=psnr((squares - pictures * float(np.square(mean_HWC).sum())) / subpixels),
    counts_V=counts_V,
  )


def perplexity(counts_V: Int[np.ndarray, " V"]) -> float:
  """exp of the entropy of the codes' frequencies."""
  p = counts_V[counts_V > 0] / counts_V.sum()
  return float(np.exp(-(p * np.log(p)).sum()))


def psnr(mean_squared_error: float) -> float:
  """dB below a peak of 1; 120 at most, so that a perfect picture has a number too."""
  return float(-10 * np.log10(max(mean_squared_error, 1e-12)))
