"""The second stage's objective: cross-entropy of text and image tokens, each averaged over its own kind (paper 2.2).

B batch, T text positions, N image positions, D width.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import flops, image_tokenizer, transformer
from dalle_jax.objectives.token_nll import token_nll


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerNll:
  """Minimises text_weight * text loss + image_weight * image loss, in nats a token.

  dvae: None for batches of {"text": int32 BT, "codes": int BN}; or the frozen dVAE's or VQGAN's sizes, for batches of
  {"text", "image": uint8 BHWC} encoded in the step by the parameters frozen["dvae"].
  pad_targets: whether absent text tokens are targets. vocab_parts: how many the classes are taken in for the loss, one
  after the other: more take less memory and a little more time.
  """

  model: transformer.Config
  dvae: image_tokenizer.Config | None = None
  text_weight: float = 1 / 8
  image_weight: float = 7 / 8
  pad_targets: bool = True
  vocab_parts: int = 1

  def __post_init__(self) -> None:
    for name, classes in (("text", self.model.text_classes), ("image", self.model.image_vocab)):
      if self.vocab_parts < 1 or classes % self.vocab_parts:
        raise UserError(
          f"vocab_parts is {self.vocab_parts}: a number is wanted that divides the {classes:,} classes of {name} tokens"
        )
    if self.text_weight < 0 or self.image_weight < 0:
      raise UserError(f"the loss weights are {self.text_weight} and {self.image_weight}: neither may be negative")

  def init(self, key: PRNGKeyArray) -> PyTree:
    """Boxed parameters."""
    c = self.model
    text, codes = jnp.zeros((1, c.text), jnp.int32), jnp.zeros((1, c.grid**2), jnp.int32)
    return transformer.Transformer(c).init(key, text, codes)["params"]

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """The weighted loss and its parts; the text's is reported with and without pads whatever `pad_targets` says."""
    text_BT, codes_BN = batch["text"], self.codes(frozen, batch)
    net = transformer.Transformer(self.model)
    features = net.apply({"params": params}, text_BT, codes_BN, method="features")
    nll = lambda x, head, targets: token_nll(x, params[head]["kernel"], targets, self.vocab_parts)  # noqa: E731
    return self.of_features(*features, text_BT, codes_BN, nll)

  def of_features(
    self,
    text_BTD: Float[Array, "B T D"],
    image_BND: Float[Array, "B N D"],
    text_BT: Int[Array, "B T"],
    codes_BN: Int[Array, "B N"],
    nll: Callable[[Array, str, Array], Array],
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """The loss of what the heads read. nll: of such features, the head's name and targets, each target's."""
    nll_BT = nll(text_BTD, "text_head", text_BT)
    present_BT = text_BT < self.model.text_vocab
    without_pads = jnp.sum(nll_BT * present_BT) / jnp.maximum(jnp.sum(present_BT), 1)
    with_pads = jnp.mean(nll_BT)
    loss_image = jnp.mean(nll(image_BND, "image_head", codes_BN))
    loss_text = with_pads if self.pad_targets else without_pads
    loss = self.text_weight * loss_text + self.image_weight * loss_image
    text_metrics = {"loss_text": with_pads, "loss_text_no_pads": without_pads}
    return loss, {"loss": loss, "loss_image": loss_image} | text_metrics

  def flops(self) -> int:
    """Of a training example, see `models.flops`."""
    return flops.of_transformer(self.model)

  def codes(self, frozen: PyTree, batch: dict[str, Array]) -> Int[Array, "B N"]:
    """The batch's, or those of its pictures."""
    if self.dvae is None:
      return batch["codes"].astype(jnp.int32)
    codes_Bhw = image_tokenizer.encode_images(frozen["dvae"], self.dvae, batch["image"])
    return codes_Bhw.reshape(codes_Bhw.shape[0], -1)
