"""How likely the transformer finds captions and pictures: log-likelihoods of the tokens of the stream, in nats.

The stream has one order, and each part is given what stands before it. Text first, as in the paper:

    text    ln p(caption)                       every token given those before it
    image   ln p(picture | caption)             every code given the caption and the codes before it

so image(caption) - image(no caption) is the pointwise mutual information of the two, with all pads as no caption. What
such a stream does not tell is ln p(caption | picture): only Bayes' rule does, over captions that one names
(`caption_given_image`). Image first it is the other way round: text is ln p(caption | picture).

B pairs, P pictures, C captions, T text positions, N image tokens.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from dalle_jax.models import transformer
from dalle_jax.objectives.token_nll import token_nll
from dalle_jax.sampling.devices import scope
from dalle_jax.sharding import Rules

MOST_SCORES = 2**26  # float32 scores of classes that are in memory at the same time


class LogLikelihoods(NamedTuple):
  """ln of the probability of every target: t1 ... tT, of which the absent ones are pads, and z0 ... z(N-1)."""

  text_BT: Float[Array, "B T"]
  image_BN: Float[Array, "B N"]


@functools.partial(jax.jit, static_argnames=("model", "mesh", "rules", "most_scores"))
def log_likelihoods(
  params: PyTree,
  text_BT: Int[Array, "B T"],
  codes_BN: Int[Array, "B N"],
  *,
  model: transformer.Config,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
  most_scores: int = MOST_SCORES,
) -> LogLikelihoods:
  """Nats of every token, float32, from one pass over the true tokens.

  The heads' scores never exist whole where they are more than `most_scores` numbers: the classes are taken in parts.
  mesh: where the parameters lie, by these rules.
  """
  with scope(mesh, rules):
    net = transformer.Transformer(model)
    text_BTD, image_BND = net.apply({"params": params}, text_BT, codes_BN, method="features")
    return LogLikelihoods(
      _of_head(params["text_head"], text_BTD, text_BT, most_scores),
      _of_head(params["image_head"], image_BND, codes_BN, most_scores),
    )


@functools.partial(jax.jit, static_argnames=("model", "mesh", "rules"))
def image_given_caption(
  params: PyTree,
  text_BT: Int[Array, "B T"],
  codes_BN: Int[Array, "B N"],
  *,
  model: transformer.Config,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
) -> Float[Array, " B"]:
  """ln p(picture | caption), nats of the whole picture; of a text-first model. The text's scores are not computed.

  With `no_caption` as the text it is ln p(picture), and the difference of the two their mutual information.
  """
  return jnp.sum(log_likelihoods(params, text_BT, codes_BN, model=model, mesh=mesh, rules=rules).image_BN, axis=-1)


@functools.partial(jax.jit, static_argnames=("model", "mesh", "rules"))
def read_captions(
  params: PyTree,
  text_CT: Int[Array, "C T"],
  *,
  model: transformer.Config,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
) -> transformer.Caches:
  """What a text-first model keeps of captions, for `image_given_read` of any number of pictures."""
  with scope(mesh, rules):
    caches = transformer.init_caches(model, text_CT.shape[0])
    net = transformer.Transformer(model)
    return transformer.texts_of(net.apply({"params": params}, text_CT, caches, method="prefill"))


@functools.partial(jax.jit, static_argnames=("model", "mesh", "rules"))
def image_given_read(
  params: PyTree,
  texts: transformer.Caches,
  codes_BN: Int[Array, "B N"],
  *,
  model: transformer.Config,
  mesh: Mesh | None = None,
  rules: Rules = Rules(),
) -> Float[Array, " B"]:
  """`image_given_caption` of pictures with captions that `read_captions` has read: the text's rows are not computed.

  B is a multiple of the captions' number: the first of them is that of the first rows.
  """
  with scope(mesh, rules):
    net = transformer.Transformer(model)
    image_BND = net.apply({"params": params}, codes_BN, texts, method="image_features")
    return jnp.sum(_of_head(params["image_head"], image_BND, codes_BN, MOST_SCORES), axis=-1)


def no_caption(model: transformer.Config, count: int) -> Int[Array, "B T"]:
  """The text of a caption without a word: all pads."""
  return jnp.broadcast_to(model.text_vocab + jnp.arange(model.text, dtype=jnp.int32), (count, model.text))


def present(model: transformer.Config, text_BT: Int[Array, "B T"]) -> Array:
  """Which text tokens are no pads."""
  return text_BT < model.text_vocab


def caption_given_image(
  image_PC: Float[Array, "P C"], prior_C: Float[Array, " C"] | None = None
) -> Float[Array, "P C"]:
  """ln p(caption | picture) among C captions that stand for all there are, by Bayes' rule.

  image_PC: ln p(picture | caption); prior_C: ln p(caption), up to a constant; all alike if None.
  """
  joint_PC = image_PC if prior_C is None else image_PC + prior_C[None]
  return jax.nn.log_softmax(joint_PC, axis=-1)


def vocab_parts(classes: int, positions: int, most_scores: int) -> int:
  """The fewest parts that divide the classes and whose scores at all positions are no more than `most_scores`."""
  divisors = [parts for parts in range(1, classes + 1) if classes % parts == 0]
  return next((parts for parts in divisors if positions * classes // parts <= most_scores), classes)


def _of_head(head: PyTree, x_BLD: Array, targets_BL: Array, most_scores: int) -> Float[Array, "B L"]:
  kernel_DV = head["kernel"]
  return -token_nll(x_BLD, kernel_DV, targets_BL, vocab_parts(kernel_DV.shape[1], targets_BL.size, most_scores))
