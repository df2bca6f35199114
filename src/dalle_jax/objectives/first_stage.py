"""The stage between pictures and codes: a dVAE that is trained (`objectives.dvae`), or a VQGAN that is only used."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

from dalle_jax.errors import UserError
from dalle_jax.models import flops, image_tokenizer, vqgan
from dalle_jax.sharding import unbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstStage:
  """What has a model that makes codes of pictures and pictures of codes."""

  model: image_tokenizer.Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenVqgan(FirstStage):
  """A VQGAN that another project trained: its stage is `frozen`, `from` a directory that `dalle convert` wrote."""

  model: vqgan.VqganConfig

  def __post_init__(self) -> None:
    if not self.model.encoder:
      raise UserError("these weights of a VQGAN only decode, and a first stage makes codes: take one with an encoder")

  def init(self, key: PRNGKeyArray) -> PyTree:
    """Boxed parameters."""
    return vqgan.init(key, self.model)

  def flops(self) -> int:
    """Of a picture that is encoded and decoded again."""
    params = unbox(jax.eval_shape(self.init, jax.random.key(0)))
    codes = jax.ShapeDtypeStruct((1, self.model.grid, self.model.grid), jnp.int32)
    return flops.of_products(lambda p, x: vqgan.Vqgan(self.model).apply({"params": p}, x), params, codes)

  def loss(
    self, params: PyTree, frozen: PyTree, batch: dict[str, Array], key: PRNGKeyArray, step: Int[Array, ""]
  ) -> tuple[Scalar, dict[str, Scalar]]:
    """Raises UserError: there is none."""
    raise UserError("a VQGAN is used here and not trained: set the stage's frozen, and its `from`")
