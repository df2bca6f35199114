"""CLIP's objective: each caption finds its picture among the whole batch's, and each picture its caption (paper 9).

B batch (global: under jit the B x B matrix spans all devices), T text, H W pixels, E shared space, M N with negatives,
P codes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import clip
from dalle_jax.models import dvae as dvae_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipContrastive:
  """Mean of the two cross-entropies over a batch of {"image": uint8 BHWC, "text": int32 BT}.

  dvae: the frozen dVAE's sizes, for batches of {"codes": int BP, "text"} that frozen["dvae"] decodes in the step: CLIP
  then learns from pictures as they will be drawn. spoil: each picture also stands among the negatives with up to this
  share of its codes taken from the batch's next picture, so that CLIP ranks malformed pictures low.

  The batch may also hold "negative_image" (uint8 MHWC), pictures that no caption describes, such as spoilt ones, among
  which captions must not find theirs; and "negative_text" (int32 NT), captions that describe no picture of the batch.
  """

  model: clip.Config
  dvae: dvae_lib.Config | None = None
  spoil: float = 0.0

  def __post_init__(self) -> None:
    if not 0 <= self.spoil <= 1:
      raise UserError(f"CLIP's spoil is {self.spoil}: a share of the codes, 0 to 1, is wanted")
    if self.spoil and self.dvae is None:
      raise UserError("CLIP's spoil is set but its dvae is not: codes can be spoilt only where it reads codes")
    if self.dvae is not None and self.dvae.image != self.model.image:
      raise UserError(f"CLIP reads {self.model.image} pixels, the dVAE makes {self.dvae.image}: make them equal")

  def init(self, key: PRNGKeyArray) -> PyTree:
    """Boxed parameters."""
    c = self.model
    images, text = jnp.zeros((1, c.image, c.image, 3)), jnp.full((1, c.text), c.text_vocab, jnp.int32)
    return clip.Clip(c).init(key, images, text)["params"]

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss in nats, each direction's, and how often the right one of the batch comes first."""
    if self.dvae is not None:
      batch = self._decoded(frozen, batch, key)
    images, text = batch["image"], batch["text"]
    if "negative_image" in batch:
      images = jnp.concatenate([images, batch["negative_image"]])
    if "negative_text" in batch:
      text = jnp.concatenate([text, batch["negative_text"]])
    image_ME, text_NE, scale = clip.Clip(self.model).apply({"params": params}, images.astype(jnp.float32) / 255, text)
    b = len(batch["image"])
    to_text_BN = scale * jnp.einsum("BE,NE->BN", image_ME[:b], text_NE)
    to_image_BM = scale * jnp.einsum("BE,ME->BM", text_NE[:b], image_ME)
    loss_to_text, loss_to_image = cross_entropy_of_diagonal(to_text_BN), cross_entropy_of_diagonal(to_image_BM)
    loss = (loss_to_text + loss_to_image) / 2
    metrics = {"loss": loss, "loss_to_text": loss_to_text, "loss_to_image": loss_to_image, "scale": scale}
    accuracy = {"accuracy_to_text": diagonal_wins(to_text_BN), "accuracy_to_image": diagonal_wins(to_image_BM)}
    return loss, metrics | accuracy

  def _decoded(self, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray) -> dict[str, Array]:
    """The batch with its codes decoded to pictures, and the spoilt ones as negatives."""
    codes_BP = batch["codes"].astype(jnp.int32)
    b = len(codes_BP)
    if self.spoil:
      key_share, key_where = jax.random.split(key)
      share_B1 = jax.random.uniform(key_share, (b, 1), maxval=self.spoil)
      spoilt_BP = jax.random.uniform(key_where, codes_BP.shape) < jnp.maximum(share_B1, 1 / codes_BP.shape[1])
      codes_BP = jnp.concatenate([codes_BP, jnp.where(spoilt_BP, jnp.roll(codes_BP, 1, axis=0), codes_BP)])
    grid = self.dvae.grid
    images_MHWC = dvae_lib.decode_images(frozen["dvae"], self.dvae, codes_BP.reshape(-1, grid, grid))
    negatives = {"negative_image": images_MHWC[b:]} if self.spoil else {}
    return {"image": images_MHWC[:b], "text": batch["text"]} | negatives


def cross_entropy_of_diagonal(logits_BN: Float[Array, "B N"]) -> Scalar:
  """Mean cross-entropy where row i's right column is i."""
  return jnp.mean(jax.nn.logsumexp(logits_BN, axis=-1) - jnp.diagonal(logits_BN))


def diagonal_wins(logits_BN: Float[Array, "B N"]) -> Scalar:
  """Fraction of rows whose largest entry is on the diagonal."""
  return jnp.mean(jnp.argmax(logits_BN, axis=-1) == jnp.arange(logits_BN.shape[0]))
