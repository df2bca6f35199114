"""The 12-billion-parameter model where a device holds 16 GiB: its weights are split over 128 devices.

Claim    that of dalle_12b.py, whose recipe this is
Cost     as there; 1.4 GiB of weights, moments and averages a device. Not yet measured here
Run      dalle plan experiments/dalle_12b_v5e.py --topology v5e:16x16
         dalle data prepare PICTURES --out data/pictures
         dalle train experiments/dalle_12b_v5e.py --data data/pictures --workdir runs/dalle_12b_v5e

Weights lie over fsdp and model, and are gathered along model first, then along fsdp in whole tiles. Blocks keep nothing
but their inputs.
"""

import dataclasses

import dalle_12b

from dalle_jax.experiment import Experiment
from dalle_jax.sharding import MeshShape, Rules


def experiment(data: str = "data/pictures") -> Experiment:
  """All three stages."""
  base = dalle_12b.experiment(data)
  split = ("fsdp", "model")
  rules = Rules(batch=("data", *split), embed=split, conv_out=split, mlp=(), heads=(), vocab=())
  stage = base.stage("transformer")
  model = dataclasses.replace(stage.objective.model, remat="full")
  stage = dataclasses.replace(stage, objective=dataclasses.replace(stage.objective, model=model))
  mesh = MeshShape(data=-1, fsdp=16, model=8)
  return dataclasses.replace(
    base, name="dalle_12b_v5e", mesh=mesh, rules=rules, stages=base.stages | {"transformer": stage}
  )
