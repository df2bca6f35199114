"""The official modules' numbers that `make test` compares with are what the modules compute."""

import json

import pytest
import random_weights
import recorded
from official_numbers import NUMBERS

pytestmark = [
  pytest.mark.parity,
  pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # ruDALL-E's GELU is a TorchScript function
]
# Of one module on two machines: their matrix products sum in different orders.
SAME = 1e-5


def test_each_file_is_of_a_module():
  assert {path.stem for path in recorded.FOLDER.glob("*")} == set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_the_modules_still_compute_what_is_kept(name):
  kept, now = recorded.load(name), NUMBERS[name]()
  assert list(kept.shapes.items()) == list(now.shapes.items())
  assert kept.draw == now.draw
  assert kept.description == json.loads(json.dumps(now.description))
  assert kept.inputs.keys() == now.inputs.keys()
  assert all((kept.inputs[key] == now.inputs[key]).all() for key in now.inputs)
  assert kept.outputs.keys() == now.outputs.keys()
  error = random_weights.error([kept.outputs[key] for key in now.outputs], list(now.outputs.values()))
  assert error <= SAME, f"recorded with {kept.made_by}, and {now.made_by} computes something else"
