"""What a step with PowerSGD sends, read from the program compiled for 16 simulated devices: factors_sent.py HEADS RANK.

Two layers of the paper's width, HEADS heads of 64, on a mesh of data=2 x fsdp=8; nothing is computed. RANK 0 is without
PowerSGD. Prints JSON: the collectives, and the numbers of the matrices and of all else that lie on a device.
"""

import dataclasses
import json
import math
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=16"

import jax
import jax.numpy as jnp

from dalle_jax import sharding
from dalle_jax.models import transformer
from dalle_jax.objectives.transformer import TransformerNll
from dalle_jax.plan import hlo
from dalle_jax.schedules import Constant
from dalle_jax.training import muon
from dalle_jax.training.optimizers import AdamW
from dalle_jax.training.powersgd import PowerSGD
from dalle_jax.training.step import abstract_state, make_step


def main(heads: int, rank: int) -> None:
  """Compiles, and prints."""
  sizes = {"text_vocab": 64, "text": 8, "image_vocab": 64, "grid": 4, "layers": 2, "heads": heads, "head_dim": 64}
  model = transformer.Config(**sizes, mix=("row",), last=None, kernel=3, attention="xla")
  objective, optimizer = TransformerNll(model=model), AdamW(lr=Constant(1e-3))
  mesh, rules = sharding.make_mesh(sharding.MeshShape(data=2, fsdp=8)), sharding.Rules()
  where = {"mesh": mesh, "rules": rules, "reduce": PowerSGD(rank=rank) if rank else None}
  state = abstract_state(objective, optimizer, **where)
  layout = lambda ndim: sharding.batch_sharding(mesh, rules, ndim)  # noqa: E731
  batch = {
    "codes": jax.ShapeDtypeStruct((16, 16), jnp.int32, sharding=layout(2)),
    "text": jax.ShapeDtypeStruct((16, 8), jnp.int32, sharding=layout(2)),
  }
  text = make_step(objective, optimizer, seed=0, **where).lower(state, {}, batch).compile().as_text()
  here = {True: 0, False: 0}
  for path, x in jax.tree_util.tree_leaves_with_path(state.params):
    here[muon.is_matrix(sharding.path_name(path))] += math.prod(x.sharding.shard_shape(x.shape))
  collectives = [dataclasses.asdict(each) for each in hlo.read(text, 16).collectives]
  print(json.dumps({"collectives": collectives, "matrices": here[True], "others": here[False]}))


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
