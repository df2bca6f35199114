"""What official modules computed with random weights, kept as numbers: parity where PyTorch is not installed.

A file of `tests/recorded/` holds a module's names and shapes, what its weights were drawn by (NumPy, so that they are
drawn again and not kept), its inputs and its outputs. `support/record.py` writes them with the official modules;
`make test-parity` computes them again and tells a file that is not of the modules any more.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import random_weights
from safetensors import safe_open
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[1] / "recorded"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
  """One module.

  Attributes:
    shapes: of the tensors that are drawn, by their official names, in the module's order.
    draw: the other arguments of `random_weights.draw`.
    description: what the project's own JSON file would say beside the weights.
    made_by: packages and versions.
    inputs, outputs: by name.
  """

  shapes: dict
  draw: dict
  description: dict
  made_by: str
  inputs: dict
  outputs: dict

  def weights(self):
    """Arrays by official name: those that the official module was filled with."""
    return random_weights.draw(self.shapes, **self.draw)

  def digest(self):
    """Of the weights: another NumPy that draws otherwise is told from a fault of ours by it."""
    return hashlib.sha256(b"".join(array.tobytes() for array in self.weights().values())).hexdigest()


def save(name, recorded):
  tensors = {f"in.{key}": value for key, value in recorded.inputs.items()}
  tensors |= {f"out.{key}": value for key, value in recorded.outputs.items()}
  told = {key: getattr(recorded, key) for key in ("shapes", "draw", "description", "made_by")}
  told["digest"] = recorded.digest()
  FOLDER.mkdir(exist_ok=True)
  contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
  save_file(contiguous, FOLDER / f"{name}.safetensors", metadata={"recorded": json.dumps(told)})


def load(name):
  """Raises AssertionError where the weights that are drawn now are not those that were drawn then."""
  with safe_open(FOLDER / f"{name}.safetensors", framework="numpy") as file:
    told = json.loads(file.metadata()["recorded"])
    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
  part = lambda start: {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}  # noqa: E731
  digest = told.pop("digest")
  told["shapes"] = {key: tuple(shape) for key, shape in told["shapes"].items()}
  found = Recorded(**told, inputs=part("in."), outputs=part("out."))
  assert found.digest() == digest, f"this NumPy draws other weights than {name} was recorded with"
  return found
