"""PyTorch's layers among named arrays, as `models.layers` holds the same."""

import numpy as np

from dalle_jax.convert.named import Names
from dalle_jax.errors import UserError


def linear(names: Names, path: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, np.ndarray]:
  """A Linear, whose weight is [outputs, inputs] there and [inputs, outputs] here."""
  found = {"kernel": np.ascontiguousarray(names.take(f"{path}.weight", (outputs, inputs)).T)}
  return {**found, "bias": names.take(f"{path}.bias", (outputs,))} if bias else found


def norm(names: Names, path: str, width: int) -> dict[str, np.ndarray]:
  """A LayerNorm."""
  return {"scale": names.take(f"{path}.weight", (width,)), "bias": names.take(f"{path}.bias", (width,))}


def embedding(names: Names, path: str, rows: int, width: int) -> dict[str, np.ndarray]:
  """An Embedding."""
  return {"embedding": names.take(f"{path}.weight", (rows, width))}


def table(names: Names, path: str) -> tuple[int, int]:
  """Rows and width of an Embedding, which is not taken. Raises UserError where it is missing or no table."""
  shape = names.shape(f"{path}.weight")
  if len(shape) != 2:
    raise UserError(f"the array {path}.weight is {shape}, wanted two axes, rows and width")
  return shape


def modules(names: Names, path: str) -> int:
  """How many modules a list has: the greatest number that follows its path, and one."""
  numbers = [name.removeprefix(f"{path}.").partition(".")[0] for name in names if name.startswith(f"{path}.")]
  return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)
