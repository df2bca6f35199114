"""A dVAE for who has minutes: its codes are clusters of the pictures' patches, and the decoder learns to paint them.

The published objective (`objectives.dvae`) makes encoder, codebook and decoder from nothing, which takes long. Here the
encoder and the codebook stay as `codebook.start` makes them of a few thousand pictures, and the decoder learns, by
squared error, what the codes look like next to each other. Squared error, because few steps make the scale of a
logit-Laplace distribution small where pictures are flat, and those regions then own the gradient.

B batch, H W pixels, h w code grid.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import dvae
from dalle_jax.objectives.dvae import DvaeObjective, count_codes, perplexity


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchDvae(DvaeObjective):
  """Minimises the squared error of a position's sub-pixels, mapped into (0.1, 0.9), by the decoder alone.

  patches_from: pictures whose patches are clustered. A batch is {"image": uint8 BHWC}. The scales that the decoder
  gives beside the locations are left untrained.
  """

  patches_from: int

  def __post_init__(self) -> None:
    if self.patches_from < 1:
      raise UserError(f"the dVAE's patches_from is {self.patches_from}: a number of pictures, at least 1, is wanted")
    if self.model.code_kernel != 1:
      raise UserError(f"patches want code_kernel 1, a vector for every code: got {self.model.code_kernel}")

  def flops(self) -> int:
    """Of a training example, whose encoder is not trained; see `models.flops`."""
    encode, decode = self._forward_flops()
    return encode + 3 * decode

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Squared error by position, PSNR in dB of pixels in [0, 1], and how many of the codes the batch has."""
    x_BHWC = dvae.map_pixels(batch["image"])
    codes_Bhw = jnp.argmax(self._apply(params, x_BHWC, method="encode"), axis=-1)
    stats_BHWS = self._apply(params, codes_Bhw, method="decode_codes")
    error = jnp.mean(jnp.square(jax.nn.sigmoid(stats_BHWS[..., :3]) - x_BHWC))
    loss = error / self.model.positions_per_subpixel  # the mean alone is so small that Adam's eps holds rare codes back
    psnr = dvae.psnr(dvae.unmap_pixels(x_BHWC), dvae.reconstruct(stats_BHWS))
    counts_V = count_codes(codes_Bhw, self.model.vocab)
    metrics = {"loss": loss, "psnr": psnr, "codebook_perplexity": perplexity(counts_V)}
    return loss, metrics | {"codebook_usage": jnp.mean(counts_V > 0)}
