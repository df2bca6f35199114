"""Image tokens from captions: one program that reads each caption once, then draws its samples token by token.

    caption's keys and values, and those of what is given first of the image, once for all of its samples
    -> loop over the other image tokens with caches

A token equals full recomputation's under the same noise (`generate_recompute`, the definition and the tests' oracle).

C captions, D with what guidance leads away from, S samples of each, B = C S rows, R of both sides, T text positions,
N image tokens, W grid, V codebook.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key, PyTree

from dalle_jax import sharding
from dalle_jax.errors import UserError
from dalle_jax.models import transformer
from dalle_jax.ops.sparse_attention import decode
from dalle_jax.sampling.choose import SamplingConfig, choose, guide, sample_keys
from dalle_jax.sampling.devices import scope
from dalle_jax.sharding import Rules


def check_draws(model: transformer.Config) -> None:
  """Raises UserError for a transformer that draws no pictures."""
  if model.order != "text_first":
    raise UserError("this transformer was trained image-first: it writes captions of pictures and draws none")
  if model.softmax != "joint":
    raise UserError("this transformer has separate softmaxes of text and image, which drawing does not serve")


@functools.partial(jax.jit, static_argnames=("model", "sampling", "mesh", "rules"))
def generate(
  params: PyTree,
  text_CT: Int[Array, "C T"],
  key: Key[Array, ""],
  caption_C: Int[Array, " C"],
  sample_S: Int[Array, " S"],
  *,
  model: transformer.Config,
  sampling: SamplingConfig,
  given_CN: Int[Array, "C N"] | None = None,
  against_CT: Int[Array, "C T"] | None = None,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
) -> Int[Array, "C S N"]:
  """Codes, int32, of the samples numbered `sample_S` of the captions numbered `caption_C`.

  key: of the seed; with the two numbers it names the noise, so a sample does not depend on what is drawn beside it.
  given_CN: codes that are not drawn, negative where one is; noise and what is drawn elsewhere is as without it. Those
  before the first that is drawn for any caption are read by rows of the grid, once a caption; how many is not compiled.
  against_CT: what guidance leads away from; the empty caption if None.
  mesh: where the parameters lie, by these rules. They stay there; rows and their caches are split as a batch is, the
  captions too where C divides. Where neither C nor S does, rows and the keys of their caption lie apart, and more goes
  round. Raises UserError where the rows, C S, do not divide over the mesh, or the model is image-first.
  """
  check_draws(model)
  if mesh:
    sharding.check_batch(text_CT.shape[0] * sample_S.shape[0], 1, mesh, rules)
  with scope(mesh, rules):
    return _generate(params, text_CT, key, caption_C, sample_S, model, sampling, given_CN, against_CT)


def _generate(
  params: PyTree,
  text_CT: Array,
  key: Array,
  caption_C: Array,
  sample_S: Array,
  model: transformer.Config,
  sampling: SamplingConfig,
  given_CN: Array | None,
  against_CT: Array | None,
) -> Array:
  params, model = transformer.unroll(params, model)
  net = transformer.Transformer(model)
  captions, samples = text_CT.shape[0], sample_S.shape[0]
  asked_DT = _with_its_opposite(text_CT, against_CT, model, sampling)
  caches = net.apply({"params": params}, asked_DT, transformer.init_caches(model, len(asked_DT)), method="prefill")
  sides, total = len(asked_DT) // captions, model.grid**2
  keys_B = _row_keys(key, caption_C, sample_S)

  def step(code_B, caches, j):
    logits_BV, caches = net.apply({"params": params}, jnp.tile(code_B, sides), caches, j, method="decode_step")
    logits_BV = guide(logits_BV, sampling) if sides == 2 else logits_BV
    return choose(logits_BV, keys_B, j, sampling), caches

  def draw(carry, j):
    code_B, caches = step(*carry, j)
    return (code_B, caches), code_B

  def draw_or_take(j, carry):
    codes_NB, caches = carry
    code_B, caches = step(codes_NB[jnp.maximum(j - 1, 0)], caches, j)
    return codes_NB.at[j].set(jnp.where(codes_NB[j] < 0, code_B, codes_NB[j])), caches

  if given_CN is None:
    first_B = jnp.zeros(captions * samples, jnp.int32)  # not read at position 0
    _, codes_NB = jax.lax.scan(draw, (first_B, transformer.repeat(caches, samples)), jnp.arange(total))
  else:
    first = _first_drawn(given_CN)
    given_DN = jnp.tile(jnp.maximum(given_CN, 0), (sides, 1))
    read = lambda row, caches: net.apply(  # noqa: E731
      {"params": params}, given_DN, caches, decode.Row(row, first), method="prefill_row"
    )
    caches = jax.lax.fori_loop(0, -(-first // model.grid), read, caches)
    codes_NB = jnp.repeat(given_CN.astype(jnp.int32), samples, axis=0).T
    codes_NB, _ = jax.lax.fori_loop(first, total, draw_or_take, (codes_NB, transformer.repeat(caches, samples)))
  return codes_NB.T.reshape(captions, samples, total)


@functools.partial(jax.jit, static_argnames=("model", "sampling"))
def generate_recompute(
  params: PyTree,
  text_CT: Int[Array, "C T"],
  key: Key[Array, ""],
  caption_C: Int[Array, " C"],
  sample_S: Int[Array, " S"],
  *,
  model: transformer.Config,
  sampling: SamplingConfig,
  given_CN: Int[Array, "C N"] | None = None,
  against_CT: Int[Array, "C T"] | None = None,
) -> Int[Array, "C S N"]:
  """What `generate` means: the whole stream computed anew for every token, as in training."""
  check_draws(model)
  net = transformer.Transformer(model)
  captions, samples, total = text_CT.shape[0], sample_S.shape[0], model.grid**2
  text_RT = jnp.repeat(_with_its_opposite(text_CT, against_CT, model, sampling), samples, axis=0)
  sides = len(text_RT) // (captions * samples)
  keys_B = _row_keys(key, caption_C, sample_S)

  def step(codes_BN, j):
    logits_RNV = net.apply({"params": params}, text_RT, jnp.tile(codes_BN, (sides, 1))).image_BNV
    logits_BV = guide(logits_RNV[:, j], sampling) if sides == 2 else logits_RNV[:, j]
    code_B = _or_given(choose(logits_BV, keys_B, j, sampling), given_CN, j, samples)
    return codes_BN.at[:, j].set(code_B), None

  codes_BN, _ = jax.lax.scan(step, jnp.zeros((captions * samples, total), jnp.int32), jnp.arange(total))
  return codes_BN.reshape(captions, samples, total)


def _with_its_opposite(
  text_CT: Int[Array, "C T"],
  against_CT: Int[Array, "C T"] | None,
  model: transformer.Config,
  sampling: SamplingConfig,
) -> Int[Array, "D T"]:
  """The captions; with guidance, after them those that it leads away from, of which the empty one is all pads."""
  if sampling.guidance == 1:
    return text_CT
  if against_CT is None:
    against_CT = jnp.broadcast_to(model.text_vocab + jnp.arange(model.text, dtype=text_CT.dtype), text_CT.shape)
  return jnp.concatenate([text_CT, against_CT])


def _first_drawn(given_CN: Int[Array, "C N"]) -> Int[Array, ""]:
  """The first position that is drawn for any caption; N if none is."""
  drawn_N = (given_CN < 0).any(axis=0)
  return jnp.where(drawn_N.any(), jnp.argmax(drawn_N), drawn_N.size).astype(jnp.int32)


def _or_given(
  code_B: Int[Array, " B"], given_CN: Int[Array, "C N"] | None, j: Int[Array, ""], samples: int
) -> Int[Array, " B"]:
  if given_CN is None:
    return code_B
  given_B = jnp.repeat(given_CN[:, j].astype(jnp.int32), samples)
  return jnp.where(given_B < 0, code_B, given_B)


def _row_keys(key: Key[Array, ""], caption_C: Int[Array, " C"], sample_S: Int[Array, " S"]) -> Key[Array, " B"]:
  return sample_keys(key, jnp.repeat(caption_C, sample_S.shape[0]), jnp.tile(sample_S, caption_C.shape[0]))
