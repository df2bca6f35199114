"""The flags of commands whose work goes over all devices: --mesh.data, --mesh.fsdp, --mesh.model."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from dalle_jax.sharding import MeshShape

MESH = ("--mesh.data", "--mesh.fsdp", "--mesh.model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Devices:
  """As `sharding.MeshShape`, which imports JAX: help has to come at once."""

  data: int = -1
  """Each takes a part of every batch; -1: all that are left."""
  fsdp: int = 1
  """The same, and each holds a part of the weights."""
  model: int = 1
  """Over so many each layer is split."""

  def shape(self) -> "MeshShape":
    """The mesh that is asked for. Raises UserError where the numbers are none of a mesh."""
    from dalle_jax.sharding import MeshShape

    return MeshShape(**dataclasses.asdict(self))
