"""What the towers of a published CLIP are built of. Parameters are float32, dicts of arrays with the names used here.

... any leading dimensions, B batch, L positions, D width, E output width, H heads, K width of a head, M hidden units.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dalle_jax.models.layers import quick_gelu
from dalle_jax.models.openai_clip.config import Stack

EPSILON = 1e-5


def linear(params: PyTree, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
  """x times a kernel [D, E], plus a bias."""
  return x @ params["kernel"] + params["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def layer_norm(params: PyTree, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
  """Normalised over the last dimension, with scale and bias."""
  lead = (1,) * (x.ndim - 1) + (-1,)
  centred = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + EPSILON) * params["scale"].reshape(lead) + params["bias"].reshape(lead)


def attend(
  q_BLD: Float[Array, "B L D"], k_BSD: Float[Array, "B S D"], v_BSD: Float[Array, "B S D"], heads: int, causal: bool
) -> Float[Array, "B L D"]:
  """Softmax attention of `heads` heads, side by side; causal: no position sees a later one."""
  split = lambda x: x.reshape(*x.shape[:2], heads, -1)  # noqa: E731
  q_BLHK, k_BSHK, v_BSHK = split(q_BLD), split(k_BSD), split(v_BSD)
  logits_BHLS = jnp.einsum("blhk,bshk->bhls", q_BLHK, k_BSHK) * q_BLHK.shape[-1] ** -0.5
  if causal:
    seen_LS = jnp.tril(jnp.ones(logits_BHLS.shape[2:], bool))
    logits_BHLS = jnp.where(seen_LS[None, None], logits_BHLS, -jnp.inf)
  return jnp.einsum("bhls,bshk->blhk", jax.nn.softmax(logits_BHLS), v_BSHK).reshape(q_BLD.shape)


def stack(params: PyTree, cfg: Stack, x_BLD: Float[Array, "B L D"], *, causal: bool) -> Float[Array, "B L D"]:
  """All blocks, each of which adds attention and an MLP of the normalised stream; their leaves are stacked first."""
  gelu = quick_gelu if cfg.quick_gelu else lambda x: jax.nn.gelu(x, approximate=False)

  def block(x_BLD: Float[Array, "B L D"], p: PyTree) -> tuple[Float[Array, "B L D"], None]:
    q, k, v = jnp.split(linear(p["qkv"], layer_norm(p["norm_1"], x_BLD)), 3, axis=-1)
    x_BLD = x_BLD + linear(p["out"], attend(q, k, v, cfg.heads, causal))
    hidden_BLM = gelu(linear(p["mlp_in"], layer_norm(p["norm_2"], x_BLD)))
    return x_BLD + linear(p["mlp_out"], hidden_BLM), None

  return jax.lax.scan(block, x_BLD, params)[0]
