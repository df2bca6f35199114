"""Image tokens of published transformers: one program that reads the caption, then draws token by token, by caches.

The caption is read one position after the other, once for every sample: simple, and an eighth to a fifth of the work.

C captions, S samples of each, B = C S rows, T text positions, N image tokens.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from dalle_jax.errors import UserError
from dalle_jax.models.peers.mindalle import MinDalle
from dalle_jax.models.peers.rudalle import RuDalle
from dalle_jax.sampling.choose import SamplingConfig, choose, sample_keys


@functools.partial(jax.jit, static_argnames=("net", "sampling"))
def draw(
  params: PyTree,
  text_CT: Int[Array, "C T"],
  key: Key[Array, ""],
  caption_C: Int[Array, " C"],
  sample_S: Int[Array, " S"],
  *,
  net: MinDalle | RuDalle,
  sampling: SamplingConfig,
) -> Int[Array, "C S N"]:
  """Codes, int32, of the samples numbered `sample_S` of the captions numbered `caption_C`.

  text_CT: ids of the network's own tokenizer. key: of the seed; with the two numbers it names the noise, so a sample
  does not depend on what is drawn beside it. Raises UserError for a text of another length, and for guidance: neither
  network was trained without captions.
  """
  cfg, rows = net.cfg, text_CT.shape[0] * sample_S.shape[0]
  if text_CT.shape[1] != cfg.text:
    raise UserError(f"a text has {text_CT.shape[1]} positions, this network's has {cfg.text}: pad or cut it")
  if sampling.guidance != 1:
    raise UserError(f"got guidance={sampling.guidance}, wanted 1: this network does not know the empty caption")
  text_BT = jnp.repeat(text_CT, sample_S.shape[0], axis=0)
  keys_B = sample_keys(key, jnp.repeat(caption_C, sample_S.shape[0]), jnp.tile(sample_S, caption_C.shape[0]))

  def at(position, carry):
    codes_BN, caches = carry
    logits_BV, caches = net.apply({"params": params}, text_BT, codes_BN, caches, position, method="step")
    # What the text's positions say of z_0 is written over by the last of them, before z_0 is read.
    j = jnp.maximum(position - (cfg.carried - 1), 0)
    return codes_BN.at[:, j].set(choose(logits_BV, keys_B, j, sampling)), caches

  caches = net.apply({"params": params}, rows, method="init_caches")
  codes_BN = jnp.zeros((rows, cfg.grid**2), jnp.int32)
  codes_BN, _ = jax.lax.fori_loop(0, cfg.carried - 1 + cfg.grid**2, at, (codes_BN, caches))
  return codes_BN.reshape(text_CT.shape[0], sample_S.shape[0], -1)
