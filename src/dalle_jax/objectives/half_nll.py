"""The transformer's objective with float16 emulated in the branches of its blocks, and scaled gradients (paper 2.4, D).

The batch stands for `replicas` like it. The loss is divided by the size of all together, as a replica does it, and the
gradients of all are added up in float32; so a branch sees gradients that are `replicas` times smaller, and the scales
are as many times greater.

Drawing and measuring compute in float32 with what was trained.

B batch, L positions, D width, V classes, S scales.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import half, layers, transformer
from dalle_jax.models.half import Format, Gauge
from dalle_jax.models.half_transformer import Low, blocks
from dalle_jax.objectives.loss_scales import LossScales, Scales
from dalle_jax.objectives.token_nll import token_nll
from dalle_jax.objectives.transformer import TransformerNll

TABLES = ("text_token", "image_token", "start", "text_position", "row", "column")
HEADS = ("text_head", "image_head")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfNll(TransformerNll):
  """As TransformerNll, in few bits.

  replicas: that the global batch is so many times this one; form: of the numbers in branches; half_logits,
  half_embeddings: whether the logits and the embeddings have that format too, each with a scale of its own (where
  `scales.each`). The paper keeps both in float32.
  """

  replicas: int = 1
  form: Format = dataclasses.field(default_factory=Format)
  scales: LossScales = dataclasses.field(default_factory=LossScales)
  half_logits: bool = False
  half_embeddings: bool = False

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.replicas < 1:
      raise UserError(f"replicas is {self.replicas}: it must be at least 1")
    if self.model.dtype != "float32":
      raise UserError(f"the model's dtype is {self.model.dtype!r}: fewer bits are emulated in float32, make it that")
    if self.model.mask_pads:
      raise UserError("mask_pads is not served in few bits, whose blocks look at every pad: set it to False")
    if self.half_logits and self.vocab_parts > 1:
      raise UserError(f"vocab_parts is {self.vocab_parts}: logits of few bits are taken whole, set it to 1")

  def parts(self) -> list[str]:
    """What is scaled, in the order of the scales: each layer's branches, then what else is in few bits."""
    branches = [f"{name}_{i:03d}" for i in range(self.model.layers) for name in ("attention", "mlp")]
    return branches + ["logits"] * self.half_logits + ["embeddings"] * self.half_embeddings

  def begin(self) -> Scales:
    """The scales before the first step."""
    return self.scales.begin(len(self.parts()) if self.scales.each else 1, self.replicas)

  def slope(
    self,
    params: PyTree,
    carried: Scales,
    frozen: PyTree,
    batch: dict[str, Array],
    key: PRNGKeyArray,
    step: Int[Array, ""],
  ) -> tuple[tuple[Scalar, dict[str, Scalar]], PyTree, Scales]:
    """The loss and metrics, the gradient, and the next scales.

    The gradient is not a number where anything of it is not finite, so that the update is left out.
    """
    del key, step
    text_BT, codes_BN = batch["text"], self.codes(frozen, batch)
    names = self.parts()
    scales_S = jnp.broadcast_to(jnp.exp2(carried.log2_S), len(names))

    def share(params: PyTree, zeros_S3: Array) -> tuple[Scalar, tuple[Scalar, dict[str, Scalar]]]:
      loss, metrics = self._loss(params, Gauge(scales_S, zeros_S3), text_BT, codes_BN)
      return loss / self.replicas, (loss, metrics)

    with jax.default_matmul_precision("highest"):  # what is rounded is what the formats say, on every device
      take = jax.grad(share, argnums=(0, 1), has_aux=True)
      (grads, counts_S3), (loss, metrics) = take(params, jnp.zeros((len(names), 3)))
    fine_S = counts_S3[:, half.NOT_FINITE] == 0
    fine = jnp.all(fine_S)
    grads = jax.tree.map(lambda g: jnp.where(fine, g * self.replicas, jnp.nan), grads)
    after = self.scales.after(carried, fine_S if self.scales.each else fine[None], self.replicas)
    return (loss, metrics | _told(names, carried, fine_S, counts_S3)), grads, after

  def _loss(
    self, params: PyTree, gauges: Gauge, text_BT: Int[Array, "B T"], codes_BN: Int[Array, "B N"]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    low = Low(form=self.form, filters=self.scales.filters)
    own = dict(zip(self.parts(), range(len(self.parts()))))
    at = lambda name: jax.tree.map(lambda g: g[own[name]], gauges)  # noqa: E731
    net, tables = transformer.Transformer(self.model), params
    if self.half_embeddings:
      tables = params | {name: _low_table(params[name], at("embeddings"), low) for name in TABLES}
    x_BLD = net.apply({"params": tables}, text_BT, codes_BN, method="embed")
    if self.half_embeddings:
      x_BLD = half.leave(half.rounded(x_BLD, at("embeddings"), low.form), at("embeddings"), low.filters)
    branches = jax.tree.map(lambda g: g[: 2 * self.model.layers], gauges)
    x_BLD = blocks(params, self.model, low, branches, x_BLD)
    features = net.apply({"params": params}, x_BLD, method="read")

    def nll(x_BLD: Array, head: str, targets_BL: Array) -> Array:
      if self.half_logits:
        return _low_nll(x_BLD, params[head]["kernel"], targets_BL, at("logits"), low)
      return token_nll(x_BLD, params[head]["kernel"], targets_BL, self.vocab_parts)

    return self.of_features(*features, text_BT, codes_BN, nll)


def _low_table(params: PyTree, gauge: Gauge, low: Low) -> PyTree:
  return {"embedding": half.rounded(half.enter(params["embedding"], gauge, False), gauge, low.form)}


def _low_nll(
  x_BLD: Float[Array, "B L D"], head_DV: Float[Array, "D V"], targets_BL: Int[Array, "B L"], gauge: Gauge, low: Low
) -> Float[Array, "B L"]:
  """-ln softmax(x head)[target] with the logits, what they are made of, and their gradients in few bits."""
  r = lambda x: half.rounded(x, gauge, low.form)  # noqa: E731
  x_BLD, head_DV = half.enter(x_BLD, gauge, low.filters), half.enter(head_DV, gauge, False)
  made_BLV = layers.product(r(x_BLD), r(head_DV), ("embed", "vocab"), "float32")
  logits_BLV = half.leave(r(made_BLV), gauge, low.filters)
  chosen_BLV = jnp.arange(head_DV.shape[1])[None, None] == targets_BL[..., None]
  return jax.nn.logsumexp(logits_BLV, axis=-1) - jnp.sum(jnp.where(chosen_BLV, logits_BLV, 0), axis=-1)


def _told(names: list[str], carried: Scales, fine_S: Array, counts_S3: Array) -> dict[str, Any]:
  """Metrics: each scale, the fraction of each part's gradient that was lost, that of the late branches, and overflows.

  Late branches are the last quarter, early ones the first.
  """
  lost_S, seen_S = counts_S3[:, half.LOST], counts_S3[:, half.SEEN]
  fraction = lambda own: jnp.sum(lost_S[own]) / jnp.maximum(jnp.sum(seen_S[own]), 1)  # noqa: E731
  branches = sum(name.startswith(("attention", "mlp")) for name in names)
  quarter = max(1, branches // 4)
  whole = {
    "underflow": fraction(slice(branches)),
    "underflow_early": fraction(slice(quarter)),
    "underflow_late": fraction(slice(branches - quarter, branches)),
    "overflowed": jnp.sum(~fine_S),
    "log2_scale": jnp.mean(carried.log2_S),
  }
  each = {f"underflow/{name}": fraction(slice(i, i + 1)) for i, name in enumerate(names)}
  told = names if carried.log2_S.shape[0] > 1 else ["all"]
  return whole | each | {f"log2_scale/{name}": carried.log2_S[i] for i, name in enumerate(told)}
