"""What the published transformers say of a text and a picture."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Logits(NamedTuple):
  """Float32 scores: S text tokens, the last S of the text, and all N image tokens, each drawn by the position before.

  B batch, V text classes, W codebook.
  """

  text_BSV: Float[Array, "B S V"]
  image_BNW: Float[Array, "B N W"]
