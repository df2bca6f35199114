"""CLIP's objective: each caption finds its picture among the whole batch's, and each picture its caption (paper 9).

B batch (global: under jit the B x B matrix spans all devices), T text, H W pixels, E shared space, M N negatives.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.models import clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipContrastive:
  """Mean of the two cross-entropies over a batch of {"image": uint8 BHWC, "text": int32 BT}.

  The batch may also hold "negative_image" (uint8 MHWC), pictures that no caption describes, such as spoilt ones, among
  which captions must not find theirs; and "negative_text" (int32 NT), captions that describe no picture of the batch.
  """

  model: clip.Config

  def init(self, key: PRNGKeyArray) -> PyTree:
    """Boxed parameters."""
    c = self.model
    images, text = jnp.zeros((1, c.image, c.image, 3)), jnp.full((1, c.text), c.text_vocab, jnp.int32)
    return clip.Clip(c).init(key, images, text)["params"]

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss in nats, each direction's, and how often the right one of the batch comes first."""
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


def cross_entropy_of_diagonal(logits_BN: Float[Array, "B N"]) -> Scalar:
  """Mean cross-entropy where row i's right column is i."""
  return jnp.mean(jax.nn.logsumexp(logits_BN, axis=-1) - jnp.diagonal(logits_BN))


def diagonal_wins(logits_BN: Float[Array, "B N"]) -> Scalar:
  """Fraction of rows whose largest entry is on the diagonal."""
  return jnp.mean(jnp.argmax(logits_BN, axis=-1) == jnp.arange(logits_BN.shape[0]))
