"""CLIP's objective: each caption finds its picture among the whole batch's, and each picture its caption (paper 9).

B batch (global: under jit the B x B matrix spans all devices), T text, H W pixels, E shared space, M pictures and N
captions with negatives, K near misses, P codes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar, UInt8

from dalle_jax.errors import UserError
from dalle_jax.models import clip, flops, image_tokenizer
from dalle_jax.objectives import spoiling
from dalle_jax.sharding import unbox

SPOILT_BLOCK = 2  # pixels a side of what is taken from another picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipContrastive:
  """Mean of the two cross-entropies over a batch of {"image": uint8 BHWC, "text": int32 BT}.

  dvae: the frozen dVAE's or VQGAN's sizes, for batches of {"codes": int BP, "text"} that frozen["dvae"] decodes in the
  step: CLIP then learns from pictures as they will be drawn. spoil_picture: each picture also stands among the
  negatives with up to this share of it taken from another one (`spoiling`); 0 for the published loss.

  The batch may also hold "negative_text" (int32 BKT), K captions for each that describe no picture of the batch, such
  as `data.near_misses` makes (one that equals a picture's own is none of its negatives).
  """

  model: clip.Config
  dvae: image_tokenizer.Config | None = None
  spoil_picture: float = 0.0

  def __post_init__(self) -> None:
    if not 0 <= self.spoil_picture <= 1:
      raise UserError(f"CLIP's spoil_picture is {self.spoil_picture}: a share, 0 to 1, is wanted")
    if self.spoil_picture and self.model.image % SPOILT_BLOCK:
      raise UserError(
        f"CLIP's spoil_picture takes blocks of {SPOILT_BLOCK} pixels, of which {self.model.image} is no multiple"
      )
    if self.dvae is not None and self.dvae.image != self.model.image:
      raise UserError(f"CLIP reads {self.model.image} pixels, the dVAE makes {self.dvae.image}: make them equal")

  def init(self, key: PRNGKeyArray) -> PyTree:
    """Boxed parameters."""
    c = self.model
    images, text = jnp.zeros((1, c.image, c.image, 3)), jnp.full((1, c.text), c.text_vocab, jnp.int32)
    return clip.Clip(c).init(key, images, text)["params"]

  def flops(self) -> int:
    """Of a training example's picture, its spoilt one, and its caption; see `models.flops`.

    Near misses and the products of all with all are not in it.
    """
    c = self.model
    params = unbox(jax.eval_shape(self.init, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((1 + bool(self.spoil_picture), c.image, c.image, 3), jnp.float32)
    text = jax.ShapeDtypeStruct((1, c.text), jnp.int32)
    return 3 * flops.of_products(lambda p, *data: clip.Clip(c).apply({"params": p}, *data), params, images, text)

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Loss in nats, each direction's, and how often the right one of the batch comes first."""
    images_BHWC, text_BT, c = self._images(frozen, batch), batch["text"], self.model
    b, images, text, same_B = len(text_BT), [images_BHWC], [text_BT], None
    if self.spoil_picture:
      spoilt_BHWC, same_B = spoiling.pictures(images_BHWC, self.spoil_picture, c.image // SPOILT_BLOCK, key)
      images.append(spoilt_BHWC)
    images_MHWC = jnp.concatenate(images)
    if "negative_text" in batch:
      text.append(batch["negative_text"].reshape(-1, text_BT.shape[1]))
    text_NT = jnp.concatenate(text)
    pixels_MHWC = images_MHWC.astype(jnp.float32) / 255
    image_ME, text_NE, scale = clip.Clip(c).apply({"params": params}, pixels_MHWC, text_NT)
    to_text_BN = _without_equal(scale * jnp.einsum("BE,NE->BN", image_ME[:b], text_NE), text_BT, text_NT)
    to_image_BM = _without_own(scale * jnp.einsum("BE,ME->BM", text_NE[:b], image_ME), same_B)
    loss_to_text, loss_to_image = cross_entropy_of_diagonal(to_text_BN), cross_entropy_of_diagonal(to_image_BM)
    loss = (loss_to_text + loss_to_image) / 2
    metrics = {"loss": loss, "loss_to_text": loss_to_text, "loss_to_image": loss_to_image, "scale": scale}
    accuracy = {"accuracy_to_text": diagonal_wins(to_text_BN), "accuracy_to_image": diagonal_wins(to_image_BM)}
    return loss, metrics | accuracy

  def _images(self, frozen: PyTree, batch: dict[str, Array]) -> UInt8[Array, "B H W 3"]:
    if self.dvae is None:
      return batch["image"]
    codes_Bhw = batch["codes"].astype(jnp.int32).reshape(-1, self.dvae.grid, self.dvae.grid)
    return image_tokenizer.decode_images(frozen["dvae"], self.dvae, codes_Bhw)


def _without_own(logits_BM: Float[Array, "B M"], same_B: Bool[Array, " B"] | None) -> Float[Array, "B M"]:
  """-inf for each caption's own spoilt picture where nothing of it was changed: it would be a negative of itself."""
  if same_B is None:
    return logits_BM
  b = len(same_B)
  own_BB = jnp.eye(b, dtype=bool) & same_B[None]
  return logits_BM.at[:, b : 2 * b].set(jnp.where(own_BB, -jnp.inf, logits_BM[:, b : 2 * b]))


def _without_equal(
  logits_BN: Float[Array, "B N"], text_BT: Int[Array, "B T"], text_NT: Int[Array, "N T"]
) -> Float[Array, "B N"]:
  """-inf for negative captions that say what the row's own says: a near miss may have missed nothing."""
  b = len(text_BT)
  equal_BN = jnp.all(text_BT[:, None] == text_NT[None, b:], axis=-1)
  return logits_BN.at[:, b:].set(jnp.where(equal_BN, -jnp.inf, logits_BN[:, b:]))


def cross_entropy_of_diagonal(logits_BN: Float[Array, "B N"]) -> Scalar:
  """Mean cross-entropy where row i's right column is i."""
  return jnp.mean(jax.nn.logsumexp(logits_BN, axis=-1) - jnp.diagonal(logits_BN))


def diagonal_wins(logits_BN: Float[Array, "B N"]) -> Scalar:
  """Fraction of rows whose largest entry is on the diagonal."""
  return jnp.mean(jnp.argmax(logits_BN, axis=-1) == jnp.arange(logits_BN.shape[0]))
