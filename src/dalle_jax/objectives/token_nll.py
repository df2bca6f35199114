"""Cross-entropy of tokens straight from features, over parts of the classes in turn, so that scores never exist whole.

Each part is a product with some columns of the head. Those are taken whole over all positions, so a part's gradient is
complete when the part is: on a mesh it is reduced and scattered once, as without parts.

B batch, L positions, D width, V classes, P parts, C classes of a part.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dalle_jax.models import layers
from dalle_jax.sharding import constrain

Scores = tuple[Float[Array, "B L"], Float[Array, "B L"]]


def token_nll(
  x_BLD: Float[Array, "B L D"], head_DV: Float[Array, "D V"], targets_BL: Int[Array, "B L"], parts: int = 1
) -> Float[Array, "B L"]:
  """-ln softmax(x head)[target], in float32.

  parts: how many the classes are taken in, each computed again in the backward pass. Raises ValueError where they do
  not divide the classes.
  """
  d, v = head_DV.shape
  if v % parts:
    raise ValueError(f"{v:,} classes don't divide into {parts} parts")
  if parts == 1:
    lse_BL, target_BL = _scores(x_BLD, targets_BL, head_DV, jnp.arange(v))
    return lse_BL - target_BL
  # Every P-th class, so that each device keeps its share of every part where a mesh splits the classes.
  head_PDC = jnp.moveaxis(head_DV.reshape(d, v // parts, parts), 2, 0)
  classes_PC = jnp.arange(v).reshape(v // parts, parts).T
  part = jax.checkpoint(functools.partial(_scores, x_BLD, targets_BL))
  lse_PBL, target_PBL = jax.lax.map(lambda own: part(*own), (head_PDC, classes_PC))
  return jax.nn.logsumexp(lse_PBL, axis=0) - jnp.sum(target_PBL, axis=0)


def _scores(
  x_BLD: Float[Array, "B L D"], targets_BL: Int[Array, "B L"], head_DC: Float[Array, "D C"], classes_C: Int[Array, " C"]
) -> Scores:
  """ln of the sum of these classes' exponentials, and the target's score where it is one of them, else 0.

  The target is picked by comparing: a gather's gradient is a slow scatter.
  """
  scores_BLC = constrain(layers.product(x_BLD, head_DC, ("embed", "vocab"), "float32"), "batch", "seq", "vocab")
  chosen_BLC = classes_C[None, None] == targets_BL[..., None]
  return jax.nn.logsumexp(scores_BLC, axis=-1), jnp.sum(jnp.where(chosen_BLC, scores_BLC, 0), axis=-1)
