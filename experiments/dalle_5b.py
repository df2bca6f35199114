"""The paper's recipe with a transformer of 5.7 billion parameters: 64 layers, 42 heads of 64.

Claim    none: the paper gives its recipe for 12 billion alone. Not yet measured here
Cost     430,000 updates of 1,024 pictures
Run      dalle data prepare PICTURES --out data/pictures
         dalle train experiments/dalle_5b.py --data data/pictures --workdir runs/dalle_5b
"""

import dalle_12b

from dalle_jax.experiment import Experiment
from dalle_jax.sharding import MeshShape


def experiment(data: str = "data/pictures") -> Experiment:
  """All three stages."""
  return dalle_12b.of_size("dalle_5b", data, layers=64, heads=42, mesh=MeshShape(data=-1, fsdp=16))
